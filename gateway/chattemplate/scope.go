package chattemplate

// Jinja compiles each template to Python functions and decides at compile time where
// every name lives: this file reproduces that analysis (jinja2.idtracking), because
// it is visible. A name that a scope only ever writes starts out undefined there even
// if the context has it, a branch that may write a name falls back to the outer one,
// a macro sees the variables around its definition, and so on.

// funcScope is one function of the compiled template: the root, a macro, a call block,
// a recursive loop, a loop's test or a block. Each call of it has its own slots.
type funcScope struct {
	depth int // number of enclosing functions
	slots int
}

// varRef names a variable from within a function: hops functions out, in slot.
type varRef struct{ hops, slot int }

// variable is a name's home.
type variable struct {
	fn   *funcScope
	slot int
}

func (v *variable) from(fn *funcScope) varRef {
	return varRef{hops: fn.depth - v.fn.depth, slot: v.slot}
}

type loadKind int

const (
	loadParam     loadKind = iota // set by whoever enters the scope
	loadResolve                   // looked up in the context
	loadAlias                     // copied from an outer scope
	loadUndefined                 // starts out missing
)

// loadOp initialises a variable when its scope is entered.
type loadOp struct {
	kind loadKind
	slot int
	name string
	from varRef
}

type exportRef struct {
	name string
	ref  varRef
}

type load struct {
	kind  loadKind
	outer *variable
	name  string
}

// symbols are the names of one scope. Branches of an if work on copies that share
// slots and are merged again.
type symbols struct {
	parent *symbols
	fn     *funcScope
	slots  map[string]*variable // shared among copies
	refs   map[string]*variable
	loads  map[*variable]load
	order  *[]*variable // of loads, for reproducible code; shared among copies
	stores map[string]bool
	work   *analysis
}

func newSymbols(parent *symbols, fn *funcScope, work *analysis) *symbols {
	return &symbols{
		parent: parent, fn: fn, work: work,
		slots:  make(map[string]*variable),
		refs:   make(map[string]*variable),
		loads:  make(map[*variable]load),
		order:  new([]*variable),
		stores: make(map[string]bool),
	}
}

func (s *symbols) copy() *symbols {
	s.work.add(len(s.refs) + len(s.loads) + len(s.stores))
	c := *s
	c.refs = make(map[string]*variable, len(s.refs))
	c.loads = make(map[*variable]load, len(s.loads))
	c.stores = make(map[string]bool, len(s.stores))
	merge(c.refs, s.refs)
	merge(c.loads, s.loads)
	merge(c.stores, s.stores)
	return &c
}

func merge[K comparable, V any](dst, src map[K]V) {
	for k, v := range src {
		dst[k] = v
	}
}

func (s *symbols) find(name string) *variable {
	for ; s != nil; s = s.parent {
		if v := s.refs[name]; v != nil {
			return v
		}
	}
	return nil
}

func (s *symbols) define(name string, l load) *variable {
	v := s.slots[name]
	if v == nil {
		v = &variable{fn: s.fn, slot: s.fn.slots}
		s.fn.slots++
		s.slots[name] = v
		*s.order = append(*s.order, v)
	}
	s.refs[name] = v
	s.loads[v] = l
	return v
}

func (s *symbols) declareParam(name string) *variable {
	s.stores[name] = true
	return s.define(name, load{kind: loadParam})
}

func (s *symbols) load(name string) {
	if s.find(name) == nil {
		s.define(name, load{kind: loadResolve, name: name})
	}
}

func (s *symbols) store(name string) {
	s.stores[name] = true
	if s.refs[name] != nil {
		return
	}
	if outer := s.parent.find(name); outer != nil {
		s.define(name, load{kind: loadAlias, outer: outer})
		return
	}
	s.define(name, load{kind: loadUndefined})
}

// mergeBranches takes over what the branches of an if define. A name that only some
// of them write keeps its outer value where they do not.
func (s *symbols) mergeBranches(branches ...*symbols) {
	stores := make(map[string]bool)
	for _, b := range branches {
		s.work.add(len(b.refs) + len(b.loads) + len(b.stores))
		merge(stores, b.stores)
	}
	for name := range s.stores {
		delete(stores, name)
	}
	for _, b := range branches {
		merge(s.refs, b.refs)
		merge(s.loads, b.loads)
		merge(s.stores, b.stores)
	}
	for name := range stores {
		target := s.find(name)
		if outer := s.parent.find(name); outer != nil {
			s.loads[target] = load{kind: loadAlias, outer: outer}
		} else {
			s.loads[target] = load{kind: loadResolve, name: name}
		}
	}
}

// entry is what runs when the scope is entered.
func (s *symbols) entry() []loadOp {
	var ops []loadOp
	for _, v := range *s.order {
		l, ok := s.loads[v]
		if !ok || l.kind == loadParam {
			continue
		}
		op := loadOp{kind: l.kind, slot: v.slot, name: l.name}
		if l.kind == loadAlias {
			op.from = l.outer.from(s.fn)
		}
		ops = append(ops, op)
	}
	return ops
}

// note records the names that node reads and writes in this scope. Nested scopes
// are analysed when they are reached; here they only count with what they evaluate
// outside themselves.
func (s *symbols) note(node any) {
	switch n := node.(type) {
	case *nameExpr:
		if n.store {
			s.store(n.name)
		} else {
			s.load(n.name)
		}
	case *nsRefExpr:
		s.load(n.name)
	case *setStmt:
		s.note(n.x)
		s.note(n.target)
	case *setBlockStmt:
		s.note(n.target)
	case *ifStmt:
		s.note(n.tests[0])
		body, elifs, other := s.copy(), s.copy(), s.copy()
		body.noteAll(n.bodies[0])
		for i := 1; i < len(n.tests); i++ {
			elifs.note(n.tests[i])
			branch := elifs.copy()
			branch.noteAll(n.bodies[i])
			elifs.mergeBranches(branch)
		}
		other.noteAll(n.other)
		s.mergeBranches(body, elifs, other)
	case *forStmt:
		s.note(n.iter)
	case *macroStmt:
		s.store(n.name)
	case *callStmt:
		if n.call != nil {
			s.note(n.call)
		}
	case *filterStmt:
		s.note(n.filter)
	case *withStmt:
		for _, v := range n.values {
			s.note(v)
		}
	case *blockStmt:
	case *loaderStmt:
		s.note(n.x)
		for _, name := range n.binds {
			s.store(name)
		}
	default:
		children(node, s.note)
	}
}

func (s *symbols) noteAll(body []stmt) {
	for _, st := range body {
		s.note(st)
	}
}

// noteParams records the names of a target as set from outside the scope.
func (s *symbols) noteParams(target expr) {
	switch t := target.(type) {
	case *nameExpr:
		s.declareParam(t.name)
	case *tupleExpr:
		for _, item := range t.items {
			s.noteParams(item)
		}
	}
}
