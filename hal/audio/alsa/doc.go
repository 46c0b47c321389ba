// Package alsa drives a Linux PCM device (include/uapi/sound/asound.h) through
// its ioctls and the memory-mapped DMA ring, from a descriptor that somebody
// else opened. It has no device discovery, no plugins, no mixer and no
// resampling: a format the hardware does not have is an error.
//
// ARM kernels refuse to map the status and control pages (their caches are not
// coherent with such a mapping), so the pointers move by the SYNC_PTR ioctl on
// every architecture; the ring itself is mapped. The same structures serve 32
// and 64 bit: all fields of varying size are C longs.
package alsa
