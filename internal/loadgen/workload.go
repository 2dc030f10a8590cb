package loadgen

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trace"
)

// Session is one user's conversation: each turn is sent with all before it,
// once the turn before was answered.
type Session struct {
	Start  time.Duration // of the first turn, from the run's start
	Gap    time.Duration // least time between two turns' starts
	System string        // "": none
	Turns  []Turn
}

// Turn is what a user says and how much is answered.
type Turn struct {
	Text      string
	MaxTokens int
}

// QA is the multi-round question answering of LMBenchmark: users who share a
// system prompt, each with a history of their own, ask in rounds.
type QA struct {
	Users, Rounds  int
	Rate           float64 // questions a second, over all users
	SystemTokens   int     // shared by all
	HistoryTokens  int     // each user's own, before the first question
	QuestionTokens int
	AnswerTokens   int
}

// Sessions spreads the users over one gap, so that questions come evenly.
func (q QA) Sessions(seed uint64) ([]Session, error) {
	if q.Users < 1 || q.Rounds < 1 || q.Rate <= 0 {
		return nil, fmt.Errorf("multi-round QA wants at least one user and round and a rate above 0, not %d, %d and %g", q.Users, q.Rounds, q.Rate)
	}
	system := prose(rand.New(rand.NewPCG(seed, 0)), q.SystemTokens)
	gap := time.Duration(float64(q.Users) / q.Rate * float64(time.Second))
	sessions := make([]Session, q.Users)
	for u := range sessions {
		rng := rand.New(rand.NewPCG(seed, uint64(u)+1))
		s := Session{Start: gap * time.Duration(u) / time.Duration(q.Users), Gap: gap, System: system, Turns: make([]Turn, q.Rounds)}
		for r := range s.Turns {
			text := fmt.Sprintf("Question %d of user %d: %s?", r+1, u+1, prose(rng, q.QuestionTokens))
			if r == 0 && q.HistoryTokens > 0 {
				text = fmt.Sprintf("I am user %d. %s\n\n%s", u+1, prose(rng, q.HistoryTokens), text)
			}
			s.Turns[r] = Turn{Text: text, MaxTokens: q.AnswerTokens}
		}
		sessions[u] = s
	}
	return sessions, nil
}

// Fixed is single questions at a constant rate, of which a share of the prompt
// is one of a few prefixes.
type Fixed struct {
	Requests     int
	Rate         float64 // a second
	PromptTokens int
	SharedShare  float64 // of the prompt, 0 to 1
	Prefixes     int     // to choose the shared part from
	AnswerTokens int
}

// Sessions are one-turn conversations.
func (f Fixed) Sessions(seed uint64) ([]Session, error) {
	if f.Requests < 1 || f.Rate <= 0 || f.Prefixes < 1 || f.SharedShare < 0 || f.SharedShare > 1 {
		return nil, fmt.Errorf("fixed load wants at least one request and prefix, a rate above 0 and a shared part from 0 to 1, not %d, %d, %g and %g",
			f.Requests, f.Prefixes, f.Rate, f.SharedShare)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	shared := int(float64(f.PromptTokens) * f.SharedShare)
	prefixes := make([]string, f.Prefixes)
	for i := range prefixes {
		prefixes[i] = prose(rng, shared)
	}
	sessions := make([]Session, f.Requests)
	for i := range sessions {
		text := prefixes[rng.IntN(len(prefixes))] + prose(rng, f.PromptTokens-shared)
		sessions[i] = Session{
			Start: time.Duration(float64(i) / f.Rate * float64(time.Second)),
			Turns: []Turn{{Text: text, MaxTokens: f.AnswerTokens}},
		}
	}
	return sessions, nil
}

// FromTrace makes each request of a trace a one-turn conversation. Traces name
// blocks, not texts: equal blocks become equal texts of about as many tokens.
func FromTrace(t *trace.Trace) []Session {
	sessions := make([]Session, len(t.Requests))
	for i := range t.Requests {
		r := &t.Requests[i]
		var text strings.Builder
		left := r.Input
		for _, block := range r.Blocks {
			n := min(left, t.BlockSize)
			text.WriteString(prose(rand.New(rand.NewPCG(block, 0)), n))
			left -= n
		}
		sessions[i] = Session{Start: r.At, Turns: []Turn{{Text: text.String(), MaxTokens: r.Output}}}
	}
	return sessions
}

// vocabulary are words that are one token each, after a space, in the usual
// English vocabularies.
var vocabulary = [...]string{
	"time", "people", "water", "year", "house", "world", "school", "state", "family", "student", "group", "country", "problem", "hand", "part",
	"place", "case", "week", "company", "system", "program", "question", "work", "government", "number", "night", "point", "home", "room", "mother",
	"area", "money", "story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "business", "issue", "side", "kind", "head",
	"far", "service", "friend", "father", "power", "hour", "game", "line", "end", "member", "law", "car", "city", "community", "name", "president", "team",
}

// prose is n words: about as many tokens.
func prose(rng *rand.Rand, n int) string {
	b := make([]byte, 0, 7*max(0, n))
	for range n {
		b = append(b, ' ')
		b = append(b, vocabulary[rng.IntN(len(vocabulary))]...)
	}
	return string(b)
}
