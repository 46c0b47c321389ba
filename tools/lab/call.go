package lab

import (
	"context"
	"fmt"
	"time"

	"ringfence/tools/speech"
)

// Call lifts the handset of from, dials number, waits until to rings, and
// lifts the handset of to.
func Call(ctx context.Context, from, to *Phone, number string) error {
	ring := to.Machine.Console().Reader()
	ring.SkipAll()
	if err := from.Machine.Hook(true); err != nil {
		return err
	}
	if err := from.Machine.Type(ctx, number+"\n"); err != nil {
		return err
	}
	if err := ring.ExpectString(ctx, `ringfence call: line kind="ringing in"`); err != nil {
		return fmt.Errorf("phone %s does not ring: %w", to.Name, err)
	}
	return to.Machine.Hook(true)
}

// settle is how long after its last sample speech may still be on its way:
// codec buffers, jitter buffer and playback ring.
const settle = 1500 * time.Millisecond

// voice is the espeak-ng voice of the lab's speakers.
const voice = "en"

// Speak says text into the microphone of from, records what to plays, leaves
// both as base.sent.wav and base.heard.wav, and compares them.
func Speak(ctx context.Context, from, to *Phone, text, base string) (speech.Result, error) {
	sent, err := speech.Say(ctx, text, voice)
	if err != nil {
		return speech.Result{}, err
	}
	begin := time.Now()
	played := from.Machine.Microphone().Play(sent)
	select {
	case <-played:
	case <-ctx.Done():
		return speech.Result{}, fmt.Errorf("phone %s does not listen to its microphone: %w", from.Name, ctx.Err())
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return speech.Result{}, ctx.Err()
	}
	return compare(to, sent, begin, base)
}

func compare(to *Phone, sent []int16, begin time.Time, base string) (speech.Result, error) {
	speaker := to.Machine.Speaker()
	heard := speech.Resample(speaker.Since(begin), speaker.Rate(), speech.Rate)
	for path, pcm := range map[string][]int16{base + ".sent.wav": sent, base + ".heard.wav": heard} {
		if err := speech.WriteWAV(path, pcm, speech.Rate); err != nil {
			return speech.Result{}, err
		}
	}
	result := speech.Compare(sent, heard, speech.Rate)
	if !result.Pass() {
		return result, fmt.Errorf("what phone %s played is not what was said: %d of %d windows match", to.Name, result.Good, result.Windows)
	}
	return result, nil
}
