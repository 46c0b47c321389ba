//go:build !lab

package main

import "ringfence/firmware/supervise"

// Product images have no lab role.
func labRoles() map[string]role  { return nil }
func labTable() []supervise.Role { return nil }
func labRoleNames() []string     { return nil }
func labUsers() []int            { return nil }
