package image

// Slot is one of the two places for a firmware image.
type Slot byte

// The slots.
const (
	SlotA Slot = 'a'
	SlotB Slot = 'b'
)

// File is the slot's path on the ESP as UEFI writes it.
func (s Slot) File() string { return `\EFI\phone\` + string(s) + `.efi` }

func (s Slot) number() uint16 {
	if s == SlotB {
		return 0xb0
	}
	return 0xa0
}

func (s Slot) description() string {
	if s == SlotB {
		return "Ringfence slot B"
	}
	return "Ringfence slot A"
}

// The disk: GPT with fixed identifiers, so that boot entries can name the ESP
// before a disk exists. A phone has one disk.
const (
	diskGUID  = "5f1d6e0c-3a52-4c8b-8a0e-72696e676664"
	espGUID   = "5f1d6e0c-3a52-4c8b-8a0e-72696e676601"
	stateGUID = "5f1d6e0c-3a52-4c8b-8a0e-72696e676602"

	blockSize  = 512
	espStart   = 2048
	espBlocks  = 64 << 20 / blockSize
	slotSize   = 24 << 20 // so that a download fits the state partition
	stateStart = espStart + espBlocks
	stateSize  = 32 << 20
	diskSize   = stateStart*blockSize + stateSize + 1<<20 // the last MiB holds the second GPT
)

func espPartition() partition {
	return partition{number: 1, start: espStart, blocks: espBlocks, id: espGUID}
}
