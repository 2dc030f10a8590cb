package prefixindex

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into testdata (read the diff before you commit it)")

// TestScenarios plays the stories in testdata: commands, a line of dashes, what
// they print, an empty line. Lines that start with # tell the story.
//
// A prompt is root/letters, a block a letter: the same letter after another
// beginning is another block.
//
//	worker NAME [store=S]               remove NAME
//	stored NAME TIER PROMPT [from=N]    the blocks from the N-th on, 0 being the first
//	removed NAME TIER PROMPT [from=N]   cleared NAME TIER
//	match PROMPT                        who has what of it
//	tree                                the runs, children indented, and who has what of them
//	snapshot NAME                       stats
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{x: New(Options{}), names: map[kv.Hash]string{}}
			got := s.play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s reads now (-rewrite accepts it):\n%s", file, got)
			}
		})
	}
}

type scenario struct {
	x     *Index
	names map[kv.Hash]string // the letter of a block, "root/" of a root
	out   bytes.Buffer
}

// play runs a script and returns it with its output as it is now.
func (s *scenario) play(t *testing.T, script string) string {
	var out bytes.Buffer
	inOutput := false
	for line := range strings.SplitAfterSeq(script, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case inOutput:
			if inOutput = text != ""; !inOutput {
				out.WriteString(line)
			}
		case text == "----":
			out.WriteString(line)
			out.Write(s.out.Bytes())
			s.out.Reset()
			inOutput = true
		default:
			out.WriteString(line)
			if text != "" && text[0] != '#' {
				if err := s.run(strings.Fields(text)); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				s.x.check(t)
			}
		}
	}
	return out.String()
}

func (s *scenario) run(words []string) (err error) {
	name := kv.WorkerID(words[min(1, len(words)-1)])
	switch words[0] {
	case "worker":
		store := ""
		if len(words) > 2 {
			_, store, _ = strings.Cut(words[2], "=")
		}
		s.x.AddWorker(name, store)
	case "remove":
		s.x.RemoveWorker(name)
	case "stored", "removed", "cleared":
		e := kv.Event{Kind: map[string]kv.EventKind{"stored": kv.Stored, "removed": kv.Removed, "cleared": kv.Cleared}[words[0]]}
		if words[2] == kv.Resume.String() {
			e.Tier = kv.Resume
		} else if e.Tier, err = kv.ParseTier(words[2]); err != nil {
			return err
		}
		if e.Kind != kv.Cleared {
			from := 0
			if len(words) > 4 {
				if from, err = strconv.Atoi(strings.TrimPrefix(words[4], "from=")); err != nil {
					return err
				}
			}
			chain := s.chain(words[3])
			e.Hashes = chain[from+1:]
			if e.Kind == kv.Stored {
				e.Parent = chain[from]
			}
		}
		s.x.Apply(name, e)
	case "match":
		s.match(words[1])
	case "tree":
		s.tree()
	case "snapshot":
		for _, e := range s.x.Snapshot(name) {
			fmt.Fprintf(&s.out, "%s %s %s after %s\n", e.Kind, e.Tier, s.letters(e.Hashes), s.names[e.Parent])
		}
	case "stats":
		n := s.x.Stats()
		fmt.Fprintf(&s.out, "%d blocks in %d runs, %d orphans, %d memberships; unknown %d, conflicts %d, ignored %d\n",
			n.Blocks, n.Runs, n.Orphans, n.Memberships, n.Unknown, n.Conflicts, n.Ignored)
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

// chain is a prompt's root and blocks.
func (s *scenario) chain(prompt string) []kv.Hash {
	root, letters, _ := strings.Cut(prompt, "/")
	h := kv.RootSpec{Model: root, BlockSize: 1}.Hash()
	s.names[h] = root + "/"
	chain := []kv.Hash{h}
	for _, r := range letters {
		h = h.Child([]uint32{uint32(r)})
		s.names[h] = string(r)
		chain = append(chain, h)
	}
	return chain
}

func (s *scenario) letters(hashes []kv.Hash) (text string) {
	for _, h := range hashes {
		text += s.names[h]
	}
	return text
}

func (s *scenario) match(prompt string) {
	var m Matches
	s.x.Match(&m, s.chain(prompt)[1:])
	found := false
	for _, id := range s.workers() {
		for i, span := range m.Spans(id) {
			if i == 0 {
				fmt.Fprintf(&s.out, "%s:", id)
			} else {
				s.out.WriteByte(',')
			}
			fmt.Fprintf(&s.out, " %d in %s", span.Blocks, span.Tiers)
			found = true
		}
		if m.Spans(id) != nil {
			s.out.WriteByte('\n')
		}
	}
	if !found {
		s.out.WriteString("nobody has it\n")
	}
}

func (s *scenario) workers() (ids []kv.WorkerID) {
	for id := range s.x.fleet.Load().workers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// tree prints every ghost and what hangs off it.
func (s *scenario) tree() {
	c := s.x.core.Load()
	var lines []string
	for r := uint32(1); r < c.runs.used; r++ {
		if run := c.runs.at(r); run.len() > 0 && run.isGhost() {
			ghost := s.names[c.at(place{r, run.first, run.lo.Load()}).bytes()]
			var b strings.Builder
			fmt.Fprintf(&b, "(%s)\n", ghost)
			s.children(&b, c, run.child, 1)
			lines = append(lines, b.String())
		}
	}
	slices.Sort(lines)
	s.out.WriteString(strings.Join(lines, ""))
}

func (s *scenario) children(b *strings.Builder, c *core, first uint32, depth int) {
	var subtrees []string
	for r := first; r != 0; r = c.runs.at(r).next {
		run := c.runs.at(r)
		var t strings.Builder
		fmt.Fprintf(&t, "%s%s ", strings.Repeat("  ", depth), s.letters(c.chainOf(r)[1:]))
		for i, m := range c.appendMembers(nil, run) {
			if i > 0 {
				t.WriteString(", ")
			}
			fmt.Fprintf(&t, "%s %s", s.holder(m.key().holder()), m.key().tier())
			if m.from() != run.lo.Load() || m.to() != run.hi.Load() {
				fmt.Fprintf(&t, " %d-%d", m.from()-run.lo.Load(), m.to()-run.lo.Load()-1)
			}
		}
		t.WriteByte('\n')
		s.children(&t, c, run.child, depth+1)
		subtrees = append(subtrees, t.String())
	}
	slices.Sort(subtrees)
	b.WriteString(strings.Join(subtrees, ""))
}

func (s *scenario) holder(n uint32) string {
	f := s.x.fleet.Load()
	for name, store := range f.stores {
		if store == n {
			return name
		}
	}
	return string(f.holders[n].worker)
}
