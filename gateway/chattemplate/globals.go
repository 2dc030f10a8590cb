package chattemplate

import (
	"math/big"
)

// globals are the functions that every template sees.
var globals map[string]Value

func init() {
	globals = map[string]Value{
		"range":           &function{sig: newSig("range", "/ start stop? step?"), fn: newRange},
		"dict":            &function{raw: func(r *renderer, a *arguments) Value { return newDict(r, a) }},
		"namespace":       &function{raw: func(r *renderer, a *arguments) Value { return &namespace{attrs: newDict(r, a)} }},
		"joiner":          &function{sig: newSig("joiner", "sep?"), fn: newJoiner},
		"cycler":          &function{sig: newSig("cycler", "*"), fn: newCycler},
		"raise_exception": &function{sig: newSig("raise_exception", "message"), fn: raiseException},
		"strftime_now":    &function{sig: newSig("strftime_now", "format"), fn: strftimeNow},
		"lipsum":          &function{raw: func(r *renderer, a *arguments) Value { return notReproducible("lipsum") }},
	}
}

// notReproducible refuses what gives another text at each rendering: the engine's
// prompt could never be the same.
func notReproducible(name string) Value {
	raise(kindRuntime, "%s is random, so no rendering of it can be the engine's", name)
	return nil
}

func raiseException(r *renderer, a []Value) Value {
	raise(kindTemplate, "%s", r.str(a[0]))
	return nil
}

func newRange(r *renderer, a []Value) Value {
	bound := func(v Value) *big.Int {
		n, ok := asInt(v)
		if !ok {
			failIfUndefined(v)
			raise(kindType, "'%s' object cannot be interpreted as an integer", v.typeName())
		}
		return n
	}
	start, stop, step := new(big.Int), bound(a[0]), big.NewInt(1)
	if a[1] != nil {
		start, stop = stop, bound(a[1])
	}
	if a[2] != nil {
		step = bound(a[2])
	}
	if step.Sign() == 0 {
		raise(kindValue, "range() arg 3 must not be zero")
	}
	n := new(big.Int).Sub(stop, start)
	if step.Sign() > 0 {
		n.Add(n, step).Sub(n, big.NewInt(1))
	} else {
		n.Add(n, step).Add(n, big.NewInt(1))
	}
	n.Quo(n, step)
	if n.Sign() < 0 {
		n.SetInt64(0)
	}
	if n.Cmp(big.NewInt(maxRange)) > 0 {
		raise(kindOverflow, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxRange)
	}
	if start.BitLen() > 62 || step.BitLen() > 40 {
		raise(kindOverflow, "range() bounds are too large")
	}
	return &rangeObj{start: start.Int64(), stop: stop.Int64(), step: step.Int64(), n: int(n.Int64())}
}

func (g *rangeObj) attr(name string) Value {
	switch name {
	case "start":
		return integer(g.start)
	case "stop":
		return integer(g.stop)
	case "step":
		return integer(g.step)
	}
	return nil
}

// newDict is Python's dict(...).
func newDict(r *renderer, a *arguments) *dict {
	d := &dict{}
	if len(a.pos) > 1 {
		raise(kindType, "dict expected at most 1 argument, got %d", len(a.pos))
	}
	if len(a.pos) == 1 {
		if from, ok := a.pos[0].(*dict); ok {
			r.spendTimes(2*itemCost, len(from.keys))
			d = from.clone()
		} else {
			for i, pair := range r.items(a.pos[0]) {
				kv := r.items(pair)
				if len(kv) != 2 {
					raise(kindValue, "dictionary update sequence element #%d has length %d; 2 is required", i, len(kv))
				}
				r.spend(2 * itemCost)
				r.scanKey(kv[0])
				d.set(kv[0], kv[1])
			}
		}
	}
	for i, name := range a.kwNames {
		d.setStr(name, a.kwVals[i])
	}
	return d
}

func newJoiner(r *renderer, a []Value) Value {
	if a[0] == nil {
		return &joiner{sep: str(", ")}
	}
	return &joiner{sep: a[0]}
}

func (j *joiner) call(r *renderer, a *arguments) Value {
	if !j.used {
		j.used = true
		return str("")
	}
	return j.sep
}

func (j *joiner) attr(name string) Value {
	switch name {
	case "sep":
		return j.sep
	case "used":
		return boolean(j.used)
	}
	return nil
}

func newCycler(r *renderer, a []Value) Value {
	items := a[0].(*tuple).items
	if len(items) == 0 {
		raise(kindPyRuntime, "at least one item has to be provided")
	}
	return &cycler{items: items}
}

var (
	cyclerNext = &methodDef{sig: newSig("next", ""), fn: func(r *renderer, v Value, a []Value) Value {
		c := v.(*cycler)
		item := c.items[c.pos]
		c.pos = (c.pos + 1) % len(c.items)
		return item
	}}
	cyclerReset = &methodDef{sig: newSig("reset", ""), fn: func(r *renderer, v Value, a []Value) Value {
		v.(*cycler).pos = 0
		return none
	}}
)

func (c *cycler) attr(name string) Value {
	switch name {
	case "next":
		return &method{recv: c, def: cyclerNext}
	case "reset":
		return &method{recv: c, def: cyclerReset}
	case "current":
		return c.items[c.pos]
	case "items":
		return &tuple{items: c.items}
	case "pos":
		return intValue(c.pos)
	}
	return nil
}
