package alsa

import "unsafe"

const longSize = unsafe.Sizeof(uintptr(0))

// ioctl numbers, asound.h "Ioctls for PCM interface".
const (
	iocWrite = 1
	iocRead  = 2

	nrHwParams = 0x11
	nrSwParams = 0x13
	nrSyncPtr  = 0x23
	nrPrepare  = 0x40
	nrStart    = 0x42
	nrDrop     = 0x43
)

func ioc(dir, nr, size uintptr) uintptr { return dir<<30 | size<<16 | 'A'<<8 | nr }

// Parameters, asound.h SNDRV_PCM_HW_PARAM_*: masks first, then intervals.
const (
	paramAccess    = 0
	paramFormat    = 1
	paramSubformat = 2
	firstInterval  = 8

	paramSampleBits = 8
	paramFrameBits  = 9
	paramChannels   = 10
	paramRate       = 11
	paramPeriodSize = 13
	paramPeriods    = 15

	accessMmapInterleaved = 0
	formatS16LE           = 2
	subformatStd          = 0

	intervalInteger = 1 << 2 // third bit of the bit field in snd_interval
)

type mask struct{ bits [8]uint32 }

type interval struct{ min, max, flags uint32 }

// hwParams is struct snd_pcm_hw_params: 608 bytes on 64 bit, 604 on 32.
type hwParams struct {
	flags     uint32
	masks     [3]mask
	mres      [5]mask
	intervals [12]interval
	ires      [9]interval
	rmask     uint32
	cmask     uint32
	info      uint32
	msbits    uint32
	rateNum   uint32
	rateDen   uint32
	fifoSize  uintptr
	reserved  [64]byte
}

// swParams is struct snd_pcm_sw_params: 136 bytes on 64 bit, 104 on 32.
type swParams struct {
	tstampMode       int32
	periodStep       uint32
	sleepMin         uint32
	availMin         uintptr
	xferAlign        uintptr
	startThreshold   uintptr
	stopThreshold    uintptr
	silenceThreshold uintptr
	silenceSize      uintptr
	boundary         uintptr
	proto            uint32
	tstampType       uint32
	reserved         [56]byte
}

// SYNC_PTR flags: without appl and availMin the call sets them.
const (
	syncHwsync   = 1 << 0
	syncAppl     = 1 << 1 // get appl_ptr instead of setting it
	syncAvailMin = 1 << 2 // get avail_min instead of setting it
)

// syncPtr is struct snd_pcm_sync_ptr: 136 bytes on 64 bit; on 32 bit the
// time32 form of 132 bytes, which every kernel accepts.
type syncPtr struct {
	flags  uint32
	status struct {
		state int32
		_     int32
		hwPtr uintptr
		_     [64 - 8 - longSize]byte
	}
	control struct {
		applPtr  uintptr
		availMin uintptr
		_        [64 - 2*longSize]byte
	}
}

// Stream states, asound.h SNDRV_PCM_STATE_*.
const (
	stateSetup        = 1
	stateXrun         = 4
	stateSuspended    = 7
	stateDisconnected = 8
)
