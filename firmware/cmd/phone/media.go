package main

import "context"

func runMedia(ctx context.Context, _ []string) error { <-ctx.Done(); return nil }
