package g722

// band is the adaptive predictor and quantizer scale of one sub-band. Index 0
// of the delay lines is the current sample.
type band struct {
	s, sp, sz int32 // predicted signal and its pole and zero parts
	r, p, a   [3]int32
	d, b      [7]int32
	nb, det   int32 // logarithmic and linear scale factor
}

func newLow() band  { return band{det: 32} }
func newHigh() band { return band{det: 8} }

// adaptLow is INVQAL, LOGSCL, SCALEL and the predictor update for the four most
// significant bits of the lower code word.
func (b *band) adaptLow(ril int32) {
	d := (b.det * qm4[ril]) >> 15
	nb := (b.nb*127)>>7 + wl[rl42[ril]]
	b.nb = max(0, min(18432, nb))
	b.det = scale(b.nb, 8)
	b.update(d)
}

// adaptHigh is INVQAH, LOGSCH, SCALEH and the predictor update.
func (b *band) adaptHigh(ih int32) {
	d := (b.det * qm2[ih]) >> 15
	nb := (b.nb*127)>>7 + wh[rh2[ih]]
	b.nb = max(0, min(22528, nb))
	b.det = scale(b.nb, 10)
	b.update(d)
}

func scale(nb, shift int32) int32 {
	v := ilb[(nb>>6)&31]
	if n := shift - nb>>11; n < 0 {
		v <<= -n
	} else {
		v >>= n
	}
	return v << 2
}

// update runs RECONS, PARREC, UPPOL2, UPPOL1, UPZERO, DELAYA, FILTEP, FILTEZ
// and PREDIC for the quantized difference d.
func (b *band) update(d int32) {
	b.d[0] = d
	b.r[0] = sat(b.s + d)
	b.p[0] = sat(b.sz + d)
	a2 := b.uppol2()
	a1 := b.uppol1(a2)
	b.upzero()
	copy(b.d[1:], b.d[:6])
	b.r[2], b.r[1] = b.r[1], b.r[0]
	b.p[2], b.p[1] = b.p[1], b.p[0]
	b.a[1], b.a[2] = a1, a2
	b.sp = sat((b.a[1]*sat(2*b.r[1]))>>15 + (b.a[2]*sat(2*b.r[2]))>>15)
	b.sz = 0
	for i := 6; i > 0; i-- {
		b.sz = sat(b.sz + (b.b[i]*sat(2*b.d[i]))>>15)
	}
	b.s = sat(b.sp + b.sz)
}

func (b *band) uppol2() int32 {
	wd := sat(b.a[1] * 4)
	if b.sameSign(1) {
		wd = sat(-wd)
	}
	wd >>= 7
	if b.sameSign(2) {
		wd += 128
	} else {
		wd -= 128
	}
	return max(-12288, min(12288, sat(wd+(b.a[2]*32512)>>15)))
}

func (b *band) uppol1(a2 int32) int32 {
	wd := int32(-192)
	if b.sameSign(1) {
		wd = 192
	}
	limit := sat(15360 - a2)
	return max(-limit, min(limit, sat(wd+(b.a[1]*32640)>>15)))
}

func (b *band) sameSign(i int) bool { return b.p[0]>>15 == b.p[i]>>15 }

func (b *band) upzero() {
	step := int32(128)
	if b.d[0] == 0 {
		step = 0
	}
	sign := b.d[0] >> 15
	for i := 1; i < 7; i++ {
		wd := -step
		if b.d[i]>>15 == sign {
			wd = step
		}
		b.b[i] = sat(wd + (b.b[i]*32640)>>15)
	}
}
