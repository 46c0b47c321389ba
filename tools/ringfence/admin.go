package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ringfence/provisioning/problem"
	"ringfence/provisioning/wire"
)

// profile is admin.json as provisiond init makes it.
type profile struct {
	Address     string `json:"address"`
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// adminClient speaks to the admin API of a provisioning service.
type adminClient struct {
	base string
	http *http.Client
}

const maxAnswer = 64 << 20

func newAdminClient(cmd *cobra.Command) (*adminClient, error) {
	path, err := cmd.Flags().GetString("admin")
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, errors.New("no admin profile: give --admin FILE or set RINGFENCE_ADMIN (provisiond init writes admin.json)")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read admin profile: %w", err)
	}
	var p profile
	if err := wire.DecodeStrict(raw, 64<<10, &p); err != nil {
		return nil, fmt.Errorf("admin profile %s: %w", path, err)
	}
	pair, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		return nil, fmt.Errorf("admin profile %s: %w", path, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(p.CA)) {
		return nil, fmt.Errorf("admin profile %s: no CA certificate in it", path)
	}
	return &adminClient{p.Address, &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}}}}, nil
}

// call sends body and returns the answer's JSON; a problem becomes an error.
func (c *adminClient) call(ctx context.Context, method, path string, body []byte) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	rsp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the provisioning service (is provisiond running?): %w", err)
	}
	defer rsp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(rsp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the service's answer: %w", err)
	}
	if rsp.StatusCode != http.StatusOK {
		p := new(problem.Problem)
		if err := json.Unmarshal(raw, p); err != nil || p.Title == "" {
			return nil, fmt.Errorf("the service answers %s", rsp.Status)
		}
		return nil, p
	}
	return raw, nil
}

// query runs one call and prints its answer: JSON with --json, else by show.
func query[T any](cmd *cobra.Command, method, path string, body []byte, show func(io.Writer, T)) error {
	asked := error(nil)
	err := ask(cmd, method, path, body, func(w io.Writer, raw json.RawMessage) { asked = display(cmd, w, raw, show) })
	return errors.Join(err, asked)
}

// ask runs one call and hands its answer to show.
func ask(cmd *cobra.Command, method, path string, body []byte, show func(io.Writer, json.RawMessage)) error {
	c, err := newAdminClient(cmd)
	if err != nil {
		return err
	}
	raw, err := c.call(cmd.Context(), method, path, body)
	if err != nil {
		return err
	}
	show(cmd.OutOrStdout(), bytes.TrimSpace(raw))
	return nil
}

func display[T any](cmd *cobra.Command, w io.Writer, raw json.RawMessage, show func(io.Writer, T)) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	if asJSON {
		_, err := fmt.Fprintln(w, string(raw))
		return err
	}
	var answer T
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("read the service's answer: %w", err)
	}
	show(w, answer)
	return nil
}
