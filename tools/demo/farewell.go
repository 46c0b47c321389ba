package main

import (
	"fmt"

	"ringfence/tools/lab"
)

func (d *demo) farewell(ok bool) {
	if !ok {
		return
	}
	fmt.Fprint(d.rows.out, `
What to try next:
  listen        build/demo/a-to-b.heard.wav, and build/demo/a-to-b.sent.wav beside it
  look          build/demo/screen-idle.png, build/demo/screen-call.png; tshark -r build/demo/lab/segment.pcap
  keep it on    ./scripts/demo --keep
  test it       ./scripts/test
`)
}

func (d *demo) printAddresses() {
	fmt.Fprintf(d.rows.out, `
Everything keeps running until Ctrl-C:
  provisioning   %s (phones), https://%s (administrators)
  call server    sip:%s over TLS
  administrator  %s --admin %s/site/admin.json device list
`, lab.ProvURL, lab.AdminAddress, lab.SIPAddress, d.world.Tools.Ringfence, d.world.Dir)
}
