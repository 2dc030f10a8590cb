package chattemplate

// The syntax tree. Parsing builds it, resolution (scope.go) fills in where each
// name lives, and the evaluator walks it; it is never changed after Parse.

// expr is an expression.
type expr interface {
	eval(r *renderer, f *frame) Value
}

// stmt is a statement.
type stmt interface {
	exec(r *renderer, f *frame) signal
}

// signal says how a statement ended.
type signal int

const (
	goOn signal = iota
	breakLoop
	continueLoop
)

type (
	constExpr struct{ v Value }
	nameExpr  struct {
		name  string
		store bool
		ref   varRef
		line  int
	}
	// nsRefExpr is the target ns.attr.
	nsRefExpr struct {
		name, attr string
		ref        varRef
		line       int
	}
	tupleExpr struct{ items []expr }
	listExpr  struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }
	condExpr  struct {
		test, then, other expr // other may be nil
		line              int
	}
	andExpr   struct{ l, r expr }
	orExpr    struct{ l, r expr }
	notExpr   struct{ x expr }
	unaryExpr struct {
		op   byte // + or -
		x    expr
		line int
	}
	binaryExpr struct {
		op   string
		l, r expr
		line int
	}
	// addExpr is x + y + ..., from left to right.
	addExpr     struct{ parts []expr }
	concatExpr  struct{ parts []expr }
	compareExpr struct {
		x    expr
		ops  []string
		args []expr
		line int
	}
	attrExpr struct {
		x    expr
		name string
		line int
	}
	itemExpr struct {
		x, arg expr
		line   int
	}
	sliceExpr struct{ start, stop, step expr } // each may be nil
	callExpr  struct {
		fn expr
		callArgs
		line int
	}
	filterExpr struct {
		x    expr // nil at the head of a filter block
		name string
		def  *filterDef
		callArgs
		line int
	}
	testExpr struct {
		x    expr
		name string
		def  *testDef
		callArgs
		line int
	}
)

// callArgs are the arguments at a call, filter or test.
type callArgs struct {
	args    []expr
	kwNames []string
	kwArgs  []expr
	dynArgs expr // *args, or nil
	dynKw   expr // **kwargs, or nil
}

type (
	textStmt   struct{ s string }
	outputStmt struct {
		x    expr
		line int
	}
	setStmt struct {
		target expr
		x      expr
		export []exportRef
		line   int
	}
	setBlockStmt struct {
		target expr
		filter expr // nil, or a chain of filters whose innermost x is nil
		body   []stmt
		enter  []loadOp
		export []exportRef
		line   int
	}
	ifStmt struct {
		tests  []expr
		bodies [][]stmt
		other  []stmt
	}
	forStmt struct {
		target, iter expr
		test         expr // nil if none
		testTarget   expr // the target again, in the test's own function
		body, other  []stmt
		recursive    bool
		line         int

		loopRef    varRef // where the loop variable lives, if usesLoop
		usesLoop   bool
		enter      []loadOp // at each iteration
		enterOther []loadOp
		fn         *funcScope // of a recursive loop
		testFn     *funcScope // of the test
		enterTest  []loadOp
	}
	breakStmt struct {
		sig  signal
		line int
	}
	macroStmt struct {
		macroDef
		target varRef
		export []exportRef
	}
	callStmt struct {
		macroDef
		call *callExpr // nil for {% generation %}
	}
	filterStmt struct {
		filter expr
		body   []stmt
		enter  []loadOp
	}
	withStmt struct {
		targets, values []expr
		body            []stmt
		enter           []loadOp
	}
	blockStmt struct {
		name   string
		scoped bool
		body   []stmt
		fn     *funcScope
		enter  []loadOp
		line   int
		locals []exportRef // what a scoped block sees of its surroundings
	}
	// loaderStmt is include, import, from or extends: there is never a loader.
	loaderStmt struct {
		name  string
		x     expr
		binds []string
		line  int
	}
)

// macroDef is the definition of a macro or of the body of a call block.
type macroDef struct {
	name     string
	params   []*nameExpr
	defaults []expr
	body     []stmt
	line     int

	fn        *funcScope
	enter     []loadOp
	caller    int // slot of the implicit caller, kwargs and varargs; -1 if not used
	kwargs    int
	varargs   int
	hasCaller bool // caller is among params
}
