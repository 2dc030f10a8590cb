package chattemplate

// Bounds that turn a hostile template or context into an error. They lie far above
// what chat templates need; where Python itself has a bound, ours is not below it.
const (
	maxSource     = 1 << 20   // bytes of template source
	maxAnalysis   = 32 << 20  // names copied or compared while a template is analysed
	maxExprDepth  = 200       // nested expressions; CPython's own parser gives up near 100
	maxChain      = 1000      // operators in a row, which make a tree as deep
	maxBlockDepth = 100       // nested statements; CPython allows 100 levels of indentation
	maxCallDepth  = 250       // nested macro calls; CPython's stack ends below 200
	maxValueDepth = 600       // nesting of a value that is printed, compared or parsed
	maxSteps      = 32 << 20  // iterations, statements and operations of one rendering
	maxWork       = 1 << 30   // bytes built while rendering, in strings and containers
	maxOutput     = 64 << 20  // bytes of the rendering
	maxIntBits    = 64 << 10  // bits of an integer
	maxIntDigits  = 4300      // digits of an integer read or printed, as in CPython
	maxRange      = 100_000   // items of a range(), as in Jinja's sandbox
	itemCost      = 32        // bytes that one container item counts for
	scanPerStep   = 16        // bytes of text whose reading counts as a step
	maxFormatSize = maxOutput // a width or precision in a format
)

// budget is what one rendering may still do.
type budget struct {
	steps int
	work  int // bytes
}

var fullBudget = budget{steps: maxSteps, work: maxWork}

// step counts one iteration, statement or operation.
func (b *budget) step() {
	if b.steps--; b.steps < 0 {
		raise(kindLimit, "the template takes too many steps")
	}
}

// scan counts the reading of n bytes, so that searching a long text over and over
// ends too.
func (b *budget) scan(n int) {
	b.steps -= n / scanPerStep
	b.step()
}

// scanKey is scan for text that is looked up.
func (b *budget) scanKey(v Value) {
	if s, ok := text(v); ok {
		b.scan(len(s))
	}
}

// spend counts n bytes about to be built. It is called before building them, so
// that a template cannot make the process allocate what it will not get.
func (b *budget) spend(n int) {
	if n < 0 || n > b.work {
		raise(kindLimit, "the template builds too much text")
	}
	b.work -= n
}

// spendTimes is spend(n*times) without overflow.
func (b *budget) spendTimes(n, times int) {
	if n > 0 && times > b.work/n {
		raise(kindLimit, "the template builds too much text")
	}
	b.spend(n * max(times, 0))
}

// analysis counts the work of analysing a template, which grows faster than its size.
type analysis struct{ done int }

func (a *analysis) add(n int) {
	if a.done += n; a.done > maxAnalysis {
		raise(kindLimit, "the template has too many variables in too many branches")
	}
}

// checkDepth stops a walk into values nested depth deep.
func checkDepth(depth int) {
	if depth > maxValueDepth {
		raise(kindRecursion, "value nested deeper than %d levels", maxValueDepth)
	}
}
