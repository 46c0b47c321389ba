package secure

// windowSize is the number of indices that may still arrive late, RFC 3711
// 3.3.2 asks for at least 64.
const windowSize = 64

// window is the replay list of one source. The zero value has seen nothing.
type window struct {
	started bool
	top     uint64 // highest authenticated index
	seen    uint64 // bit n: top-n was seen
}

// estimate guesses the index of a 16-bit sequence number, RFC 3711 3.3.1 and
// appendix A. It is false before the start of the stream.
func (w *window) estimate(seq uint16) (uint64, bool) {
	if !w.started {
		return uint64(seq), true
	}
	diff := int64(int16(seq - uint16(w.top)))
	index := int64(w.top) + diff
	return uint64(index), index >= 0 && index <= maxIndex
}

// fresh says whether index may be accepted.
func (w *window) fresh(index uint64) bool {
	if !w.started || index > w.top {
		return true
	}
	age := w.top - index
	return age < windowSize && w.seen>>age&1 == 0
}

// accept records an authenticated index.
func (w *window) accept(index uint64) {
	switch {
	case !w.started:
		*w = window{started: true, top: index, seen: 1}
	case index > w.top:
		w.seen = w.seen<<min(index-w.top, 64) | 1
		w.top = index
	default:
		w.seen |= 1 << (w.top - index)
	}
}
