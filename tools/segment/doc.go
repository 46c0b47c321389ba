// Package segment is a layer-2 network segment in user space: a learning switch
// that joins the network cards of QEMU boards (QEMU's "stream" framing) and a
// TAP interface, writes captures, and loses, delays or holds frames on demand.
//
// It is not a bridge for production networks: it speaks no spanning tree and
// keeps no per-VLAN tables.
//
// Specifications: IEEE 802.1D clause 7.8 (learning); QEMU net/stream.c (32-bit
// big-endian length before each frame); the pcap file format
// (draft-ietf-opsawg-pcap).
package segment
