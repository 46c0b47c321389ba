package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"ringfence/firmware/attest"
	"ringfence/firmware/identity"
	"ringfence/provisioning/wire/enroll"
	"ringfence/provisioning/wire/factory"
)

// linger is how long the line is served after the installation, for a station
// whose answer was damaged on the way.
const linger = 2 * time.Second

// factoryMode serves the factory station until an IDevID is installed.
func (a *Agent) factoryMode(ctx context.Context) error {
	if a.cfg.Serial == nil {
		return fmt.Errorf("%w, and there is no factory line: enrol it with `ringfence factory enroll`", identity.ErrNone)
	}
	port, err := a.cfg.Serial()
	if err != nil {
		return fmt.Errorf("open the factory line: %w", err)
	}
	serial := &line{ReadWriteCloser: port}
	a.event(EventFactoryWaiting, string(a.cfg.Model))
	stop := context.AfterFunc(ctx, serial.shut)
	defer stop()
	defer serial.shut()
	var timer *time.Timer
	err = a.serveFactory(serial, func() {
		if timer == nil {
			timer = time.AfterFunc(linger, serial.shut)
		}
	})
	if timer != nil {
		timer.Stop()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.factory == nil {
		return fmt.Errorf("factory line: %w", err)
	}
	a.event(EventFactoryInstalled, string(a.factory.Device))
	return nil
}

// serveFactory answers requests until the line ends. A damaged line is passed
// over: the station repeats its request.
func (a *Agent) serveFactory(serial *line, installed func()) error {
	reader := bufio.NewReader(serial)
	for {
		request, err := factory.Read(reader)
		if err != nil {
			if serial.ended != nil {
				return err
			}
			a.cfg.Log.Warn("factory line is damaged", "error", err)
			continue
		}
		answer, err := a.factoryAnswer(request)
		if err != nil {
			a.cfg.Log.Error("factory request refused", "error", err)
			answer = &factory.Message{Refused: &factory.Refused{Reason: err.Error()}}
		}
		if err := factory.Write(serial, answer); err != nil {
			return err
		}
		if answer.Installed != nil {
			installed()
		}
	}
}

func (a *Agent) factoryAnswer(m *factory.Message) (*factory.Message, error) {
	switch {
	case m.Identify != nil:
		identity, err := a.showIdentity(m.Identify.Nonce)
		return &factory.Message{Identity: identity}, err
	case m.Activate != nil:
		if a.keys == nil {
			return nil, errors.New("activate before identify")
		}
		secret, err := a.keys.Activate(m.Activate.Blob, m.Activate.Secret)
		return &factory.Message{Activated: &factory.Activated{Secret: secret}}, err
	case m.Install != nil:
		if a.keys == nil {
			return nil, errors.New("install before identify")
		}
		f, err := identity.Install(a.cfg.StateDir, a.keys, m.Install)
		if err != nil {
			return nil, err
		}
		a.factory = f
		return &factory.Message{Installed: &factory.Installed{}}, nil
	}
	return nil, errors.New("not a request that a phone answers")
}

func (a *Agent) showIdentity(nonce []byte) (*factory.Identity, error) {
	if len(nonce) != enroll.NonceSize {
		return nil, fmt.Errorf("nonce of %d bytes, want %d", len(nonce), enroll.NonceSize)
	}
	keys, err := identity.Create(a.cfg.TPM, a.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Floor.Define(); err != nil {
		return nil, err
	}
	if a.cfg.ReleaseFloor != nil {
		if err := a.cfg.ReleaseFloor.Define(); err != nil {
			return nil, err
		}
	}
	ek, certs, err := keys.Endorsement()
	if err != nil {
		return nil, err
	}
	key, err := keys.Certify(factory.UseIDevID, nonce)
	if err != nil {
		return nil, err
	}
	attester, err := attest.New(keys, a.cfg.Logs)
	if err != nil {
		return nil, err
	}
	eventLog, err := attester.EventLog()
	if err != nil {
		return nil, err
	}
	a.keys = keys
	return &factory.Identity{Model: a.cfg.Model, Release: a.cfg.Release, EKCerts: certs, EKPublic: ek, AK: keys.AK(),
		Key: key, EventLog: eventLog, PhoneLog: a.cfg.Logs.Phone()}, nil
}
