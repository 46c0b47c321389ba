package main

import (
	"ringfence/firmware/network"
	"ringfence/provisioning/wire/lock"
	"ringfence/provisioning/wire/report"
)

// What the roles say to each other. Init is the hub: roles tell it, and it
// tells those who subscribed.
const (
	// To init.
	verbSubscribe = "subscribe" // any: notices from now on, the present state first
	verbStage     = "stage"     // any: a boot stage was reached
	verbEvent     = "event"     // any: an audit event, passed to agent
	verbLease     = "lease"     // net; from init to agent as a notice
	verbConfig    = "config"    // agent: the configuration in force; from init as a notice
	verbUnproven  = "unproven"  // agent: the service refused this phone
	verbStatus    = "status"    // agent asks for report.Status
	verbLine      = "line"      // call: what the line does; from init to ui and agent as a notice
	verbRecord    = "record"    // call: a finished call, passed to agent
	verbReserve   = "reserve"   // call, and from init to media
	verbStart     = "start"     // call, and from init to media
	verbStop      = "stop"      // call, and from init to media
	verbSilence   = "silence"   // init to media

	// To init, from agent: the image slots, which only init can write.
	verbSlots   = "slots"         // answer: update.Status
	verbInstall = "slots.write"   // with the image's descriptor
	verbRestart = "slots.restart" // answer: restartAnswer
	verbCommit  = "slots.commit"

	// From init.
	verbProof     = "proof"      // whether the service accepts this phone's proof
	verbHook      = "hook"       // the handset was lifted or replaced
	verbMic       = "mic"        // the microphone was opened or closed
	verbMediaLost = "media lost" // the media process of a running call ended

	// To net, call and agent.
	verbPolicy   = "policy"   // init to net: what the packet filter lets through
	verbDial     = "dial"     // ui to call
	verbAnswer   = "answer"   // ui to call
	verbHangup   = "hang up"  // ui to call
	verbSIPChain = "sip.cert" // call to agent
	verbSIPSign  = "sip.sign" // call to agent
)

type stageMessage struct {
	Name string `json:"name"`
}

type unprovenMessage struct {
	Why string `json:"why"` // the service's words
}

type proofMessage struct {
	Proven bool   `json:"proven"`
	Why    string `json:"why,omitempty"`
}

type hookMessage struct {
	OffHook bool `json:"off_hook"`
}

type micMessage struct {
	Open  bool `json:"open"`
	Muted bool `json:"muted"`
}

type dialMessage struct {
	Number string `json:"number"`
}

type configMessage struct {
	Config *lock.Config `json:"config"`
}

type portMessage struct {
	Port uint16 `json:"port"`
}

type rangeMessage struct {
	Min uint16 `json:"min"`
	Max uint16 `json:"max"`
}

// lineMessage is what the line does. Kind is a sip.Kind.
type lineMessage struct {
	Kind      string `json:"kind"`
	Peer      string `json:"peer,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Emergency bool   `json:"emergency,omitempty"`
	Codec     string `json:"codec,omitempty"` // with "answered"
	Suite     string `json:"suite,omitempty"`
}

type slotsMessage struct {
	Digests bool `json:"digests"`
}

type installMessage struct {
	Size   int64    `json:"size"`
	SHA256 [32]byte `json:"sha256"`
}

type restartMessage struct {
	Try bool `json:"try"` // into the idle slot, once
}

type restartAnswer struct {
	Busy bool `json:"busy"`
}

type chainMessage struct {
	Chain [][]byte `json:"chain"` // DER, leaf first
}

type digestMessage struct {
	Digest []byte `json:"digest"` // SHA-256
}

type signatureMessage struct {
	Signature []byte `json:"signature"` // ECDSA, ASN.1
}

type (
	leaseMessage  = network.Lease
	policyMessage = network.Policy
	eventMessage  = report.Event
	recordMessage = report.Call
	statusMessage = report.Status
)
