package alsactl

import "unsafe"

// ioctl numbers, asound.h SNDRV_CTL_IOCTL_*.
const (
	nrElemInfo  = 0x11
	nrElemRead  = 0x12
	nrElemWrite = 0x13
)

// SNDRV_CTL_ELEM_IFACE_MIXER and SNDRV_CTL_ELEM_TYPE_BOOLEAN.
const (
	ifaceMixer  = 2
	typeBoolean = 1
)

func iowr(nr, size uintptr) uintptr { return 3<<30 | size<<16 | 'U'<<8 | nr }

// elemID is struct snd_ctl_elem_id: 64 bytes.
type elemID struct {
	numid, iface, device, subdevice uint32
	name                            [44]byte
	index                           uint32
}

// elemInfo is struct snd_ctl_elem_info: 272 bytes.
type elemInfo struct {
	id     elemID
	kind   uint32
	access uint32
	count  uint32
	owner  int32
	_      [128 + 64]byte
}

// elemValue is struct snd_ctl_elem_value: 1224 bytes on 64 bit, 712 on 32 bit ARM.
type elemValue struct {
	id       elemID
	indirect uint32
	_        uint32 // the union has fields of 64 bits
	value    [128]uintptr
	_        [128]byte
}

func requestInfo() uintptr  { return iowr(nrElemInfo, unsafe.Sizeof(elemInfo{})) }
func requestRead() uintptr  { return iowr(nrElemRead, unsafe.Sizeof(elemValue{})) }
func requestWrite() uintptr { return iowr(nrElemWrite, unsafe.Sizeof(elemValue{})) }
