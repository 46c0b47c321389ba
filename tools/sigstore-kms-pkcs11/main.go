//go:build cgo

// Command sigstore-kms-pkcs11 is a sigstore KMS plugin for keys in a PKCS#11
// token: with it in the path, pkcs11://TOKEN/LABEL names a P-256 key to
// ringfence release and to cosign. It is a program of its own because PKCS#11
// needs cgo, and it is not for keys other than ECDSA P-256.
//
// Spec: sigstore KMS plugin protocol v1; PKCS#11 v2.40.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
)

// Environment of the plugin: the protocol has no place for them.
const (
	envModule = "PKCS11_MODULE_PATH" // the token's library, such as libsofthsm2.so
	envPIN    = "PKCS11_PIN"         // of the token's user
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "sigstore-kms-pkcs11:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	plugin, err := handler.GetPluginArgs(args)
	if err != nil {
		return errors.Join(err, handler.WriteErrorResponse(os.Stdout, err))
	}
	if plugin.InitOptions == nil || plugin.InitOptions.ProtocolVersion != common.ProtocolVersion {
		err := fmt.Errorf("want protocol %s", common.ProtocolVersion)
		return errors.Join(err, handler.WriteErrorResponse(os.Stdout, err))
	}
	key, err := open(os.Getenv(envModule), os.Getenv(envPIN), plugin.InitOptions.KeyResourceID)
	if err != nil {
		return errors.Join(err, handler.WriteErrorResponse(os.Stdout, err))
	}
	defer key.close()
	_, err = handler.Dispatch(os.Stdout, os.Stdin, plugin, key)
	return err
}
