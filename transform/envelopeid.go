package transform

// EnvelopeID returns the id of an encoded envelope: the first field, behind
// the magic byte and the schema's id. It reports false for anything else. The
// result points into value.
func EnvelopeID(value []byte) ([]byte, bool) {
	const prefix = 5
	if len(value) <= prefix || value[0] != 0 {
		return nil, false
	}
	length, shift := uint64(0), 0
	for i := prefix; i < len(value) && shift < 64; i++ {
		length |= uint64(value[i]&0x7f) << shift
		shift += 7
		if value[i]&0x80 != 0 {
			continue
		}
		n := length >> 1 // zigzag; a length is not negative
		rest := value[i+1:]
		if length&1 != 0 || n > uint64(len(rest)) {
			return nil, false
		}
		return rest[:n], true
	}
	return nil, false
}
