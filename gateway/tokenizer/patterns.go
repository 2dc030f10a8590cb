package tokenizer

import (
	"fmt"
	"strings"
	"time"

	"github.com/dlclark/regexp2/v2"
)

// The split patterns that have a hand-written scanner, by their exact text.
const (
	patternGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	patternCL100K = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen35 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	patternO200K  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	patternKimiK2 = `[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	patternDeepSeekNumbers = `\p{N}{1,3}`
	patternDeepSeekAsian   = `[一-龥぀-ゟ゠-ヿ]+`
	patternDeepSeekRest    = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)

// A stage is one pre-tokenizer of a sequence; it runs on every piece that the
// one before it made. Exactly one of scan and regex is set.
type stage struct {
	pattern string
	scan    splitter
	regex   *regexp2.Regexp
	cuts    newlineCuts
	bound   bounder // what scan makes of ASCII, if this is the only stage
}

func knownPattern(pattern string) (stage, bool) {
	// DeepSeek's file has the two characters themselves.
	pattern = strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(pattern)
	s := stage{pattern: pattern, cuts: cutAfter}
	switch pattern {
	case patternGPT2:
		s.scan, s.bound, s.cuts = scanGPT2, boundGPT2(false), cutBefore
	case patternCL100K:
		s.scan, s.bound = scanCL100K(classLetter, 3), boundCL100K(3)
	case patternQwen2:
		s.scan, s.bound = scanCL100K(classLetter, 1), boundCL100K(1)
	case patternQwen35:
		s.scan, s.bound = scanCL100K(classLetter|classMark, 1), boundCL100K(1)
	case patternO200K:
		s.scan, s.bound, s.cuts = scanO200K(3, true), boundO200K(3, true, true), cutAfterNoSlash
	case patternTekken:
		s.scan, s.bound, s.cuts = scanO200K(1, false), boundO200K(1, false, true), cutAfterNoSlash
	case patternKimiK2:
		s.scan, s.bound = scanKimiK2, boundO200K(3, true, false)
	case patternDeepSeekNumbers:
		s.scan, s.cuts = scanNumbers(3), cutAny
	case patternDeepSeekAsian:
		s.scan, s.cuts = scanEastAsian, cutAny
	case patternDeepSeekRest:
		s.scan = scanDeepSeekRest
	default:
		return stage{}, false
	}
	return s, true
}

// patternStage compiles a split pattern. One without a scanner runs on a regex
// engine: slower, and of the Go release's Unicode.
func patternStage(pattern string) (stage, error) {
	if s, ok := knownPattern(pattern); ok {
		return s, nil
	}
	re, err := regexp2.Compile(pattern, regexp2.OptionMaxBacktrackingStackSize(maxRegexStack))
	if err != nil {
		return stage{}, fmt.Errorf("%w: split pattern %q: %v", ErrUnsupported, pattern, err)
	}
	re.MatchTimeout = maxRegexTime
	return stage{pattern: pattern, regex: re}, nil
}

// digitsStage is the Digits pre-tokenizer.
func digitsStage(individual bool) stage {
	return stage{pattern: patternDigits[individual], scan: scanDigits(individual), cuts: cutAny}
}

// patternDigits names the two kinds of Digits.
var patternDigits = map[bool]string{true: "each digit", false: "runs of digits"}

// fuse joins stages that one scanner does together.
func fuse(stages []stage) []stage {
	if len(stages) < 2 {
		return stages
	}
	switch rest := stages[2:]; {
	case stages[0].pattern == patternDeepSeekNumbers && stages[1].pattern == patternDeepSeekAsian:
		return append([]stage{{scan: scanDeepSeekOuter, cuts: cutAny}}, rest...)
	case stages[0].pattern == patternDigits[true] && stages[1].pattern == patternGPT2 && len(rest) == 0:
		return []stage{{scan: scanDigitsGPT2, bound: boundGPT2(true), cuts: cutBefore}}
	}
	return stages
}

// A pattern on the regex engine may backtrack over all of the text from every place
// in it, so how much text one call may give to it is bounded, as is how long it may
// look for one piece and how much it may remember meanwhile.
const (
	maxRegexBytes = 256 << 10
	maxRegexTime  = 2 * time.Second
	maxRegexStack = 1 << 20 // integers
)

// pieces splits s by the stage's regex; none if that is too costly.
func (e *encoder) pieces(st *stage, s string) []string {
	if e.err != nil || len(s) > e.regexLeft {
		e.err = ErrTooCostly
		return nil
	}
	e.regexLeft -= len(s)
	matches, err := st.regex.FindAllStringIndex(s, -1)
	if err != nil {
		e.err = ErrTooCostly
		return nil
	}
	pieces := make([]string, 0, 2*len(matches)+1)
	start := 0
	for _, m := range matches {
		if start < m[0] {
			pieces = append(pieces, s[start:m[0]])
		}
		if m[0] < m[1] {
			pieces = append(pieces, s[m[0]:m[1]])
		}
		start = m[1]
	}
	if start < len(s) {
		pieces = append(pieces, s[start:])
	}
	return pieces
}
