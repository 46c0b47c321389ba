// Package alsactl turns a codec's switches on and off through ALSA's control
// device (include/uapi/sound/asound.h, "Section for driver control interface").
// It knows no volumes and no routes, and moves no sound: that is hal/audio/alsa.
package alsactl
