package main

import "context"

func runUI(ctx context.Context, _ []string) error { <-ctx.Done(); return nil }
