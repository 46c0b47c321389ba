// Package speech makes spoken test signals and judges, window by window,
// whether a recording holds what was spoken. It does not measure quality the
// way a listener would (no PESQ, no POLQA): it answers "is it this utterance,
// all of it".
//
// Specification: RIFF WAVE for files; the comparison is normalised
// cross-correlation of the signals' 200 ms windows.
package speech
