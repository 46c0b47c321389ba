package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.bug.st/serial"

	"ringfence/provisioning/wire/device"
	wire "ringfence/provisioning/wire/factory"
	"ringfence/tools/factory"
)

func newFactoryCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "factory", Short: "Give blank phones their identity"}
	cmd.AddCommand(newFactoryEnrollCommand())
	return cmd
}

type enrollFlags struct {
	port, manufacturer, ekRoots, device, manifest, logs string
	baud                                                int
	timeout                                             time.Duration
}

func newFactoryEnrollCommand() *cobra.Command {
	f := enrollFlags{}
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Enrol the phone on a serial line: check its TPM, issue its IDevID, list it in the shipping manifest",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runFactoryEnroll(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.port, "port", "", "serial device of the phone's factory line")
	flags.StringVar(&f.manufacturer, "manufacturer", "", "manufacturer directory (ringfence manufacturer init)")
	flags.StringVar(&f.ekRoots, "ek-roots", "", "PEM file: roots and intermediates of the TPM makers")
	flags.StringVar(&f.device, "device", "", "serial number to give, such as RF-000001")
	flags.StringVar(&f.manifest, "manifest", "manifest.json", "shipping manifest to append to")
	flags.StringVar(&f.logs, "logs", "", "directory for the unit's log (default: beside the manifest)")
	flags.IntVar(&f.baud, "baud", 115200, "line speed")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "give up after this long")
	for _, name := range []string{"port", "manufacturer", "ek-roots", "device"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // programmer error: no such flag
		}
	}
	return cmd
}

func runFactoryEnroll(cmd *cobra.Command, f enrollFlags) (err error) {
	id, err := device.ParseID(f.device)
	if err != nil {
		return err
	}
	manufacturer, err := factory.LoadManufacturer(f.manufacturer)
	if err != nil {
		return err
	}
	roots, err := factory.LoadCertificates(f.ekRoots)
	if err != nil {
		return fmt.Errorf("EK roots: %w", err)
	}
	if err := checkManifestFree(f.manifest, id); err != nil {
		return err
	}
	log, closeLog, err := unitLog(cmd.ErrOrStderr(), f, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	line, err := serial.Open(f.port, &serial.Mode{BaudRate: f.baud})
	if err != nil {
		return fmt.Errorf("open %s: %w", f.port, err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	unit, err := enrollUnit(ctx, factory.Config{Line: line, EKRoots: roots, Manufacturer: manufacturer, Log: log}, id)
	if err != nil {
		log.Error("unit failed", "error", err)
		return err
	}
	if err := factory.AddUnit(f.manifest, manufacturer, *unit); err != nil {
		return err
	}
	log.Info("unit done", "device", unit.Device, "model", unit.Model, "ek", unit.EK, "idevid", unit.IDevID)
	return report(cmd, unit, fmt.Sprintf("%s (%s) enrolled", unit.Device, unit.Model))
}

func enrollUnit(ctx context.Context, cfg factory.Config, id device.ID) (*wire.Unit, error) {
	station, err := factory.New(cfg)
	if err != nil {
		return nil, errors.Join(err, cfg.Line.Close())
	}
	unit, err := station.Enroll(ctx, id)
	return unit, errors.Join(err, station.Close())
}

func checkManifestFree(path string, id device.ID) error {
	m, err := factory.ReadManifest(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return factory.CheckFree(m, wire.Unit{Device: id})
}

func unitLog(terminal io.Writer, f enrollFlags, id device.ID) (*slog.Logger, func() error, error) {
	dir := f.logs
	if dir == "" {
		dir = filepath.Dir(f.manifest)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, string(id)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(io.MultiWriter(terminal, file), nil)), file.Close, nil
}
