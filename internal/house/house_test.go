package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/kvasir-ai/kvasir"
)

// mayImport is DESIGN's table: a package in the folder on the left may import
// ours only from the folders on the right (besides its own sub-folders). The
// longest matching folder counts.
var mayImport = map[string][]string{
	"cmd":                     {""}, // everything
	"gateway":                 {"router", "prefixindex", "workers", "gateway", "internal/kv", "internal/jsontext", "internal/telemetry"},
	"gateway/tokenizer":       {"internal/kv", "internal/gguf"},
	"gateway/chattemplate":    {"internal/kv", "internal/jsontext"},
	"gateway/queue":           {},
	"gateway/wire":            {},
	"workers":                 {"workers", "kvbm", "internal/kv", "internal/telemetry"},
	"workers/engine/embedded": {"workers", "kvbm", "gateway/tokenizer", "gateway/chattemplate", "internal/kv", "internal/gguf", "internal/telemetry"},
	"kvbm":                    {"kvbm", "cuda", "internal/kv", "internal/telemetry"},
	"router":                  {"internal/kv"},
	"prefixindex":             {"internal/kv"},
	"prefixindex/indexbench":  {"internal/kv", "prefixindex"},
	"cuda":                    {"internal/kv"},
	"internal/kv":             {},
	"internal/jsontext":       {},
	"internal/gguf":           {},
	"internal/loadgen":        {"internal/trace"},
	"internal/trace":          {},
	"internal/telemetry":      {},
	"internal/signals":        {},
	"internal/trial":          {},
	"internal/config":         {"internal/kv"},
	"internal/sim":            {"router", "prefixindex", "kvbm/policy", "internal/kv", "internal/trace"},
	"internal/house":          {},
	"internal/e2e":            {},
}

// pure packages hold no clock, socket, goroutine or logger.
var pure = []string{"router", "prefixindex", "kvbm/policy", "gateway/chattemplate", "gateway/tokenizer", "gateway/queue", "internal/kv", "internal/jsontext"}

// loaders are the files of pure packages that may read files: what is made of them
// knows none.
var loaders = []string{"gateway/tokenizer/load.go"}

var impure = []string{"net", "net/http", "log", "log/slog", "os", "os/exec"}

type goFile struct {
	path, dir string
	ast       *ast.File
	lines     int
	generated bool
	test      bool
}

func goFiles(t *testing.T) (files []goFile) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, goFile{
			path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), ast: f,
			lines:     strings.Count(string(src), "\n"),
			generated: ast.IsGenerated(f), test: strings.HasSuffix(path, "_test.go"),
		})
		return nil
	})
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d Go files: %v", len(files), err)
	}
	return files
}

// within reports whether dir is folder or below it.
func within(dir, folder string) bool {
	return folder == "" || dir == folder || strings.HasPrefix(dir, folder+"/")
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue // a test may set its package beside any other
		}
		rule := ""
		for folder := range mayImport {
			if within(f.dir, folder) && len(folder) > len(rule) {
				rule = folder
			}
		}
		if rule == "" {
			t.Errorf("%s: no import rule covers %s; add one to mayImport and docs/architecture.md", f.path, f.dir)
			continue
		}
		for _, imp := range f.ast.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			ours, ok := strings.CutPrefix(path, module+"/")
			if !ok || within(ours, rule) {
				continue
			}
			if !slices.ContainsFunc(mayImport[rule], func(folder string) bool { return within(ours, folder) }) {
				t.Errorf("%s imports %s; %s may import only %s", f.path, ours, rule, strings.Join(mayImport[rule], ", "))
			}
		}
	}
}

func TestPureCoreStaysPure(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(pure, f.dir) {
			continue
		}
		for _, imp := range f.ast.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if slices.Contains(impure, path) && !(path == "os" && slices.Contains(loaders, f.path)) {
				t.Errorf("%s: a pure package imports %s", f.path, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a pure package starts a goroutine", f.path)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Sleep", "After", "NewTimer", "NewTicker"}, n.Sel.Name) {
					t.Errorf("%s: a pure package reads the clock (time.%s)", f.path, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	said := map[string]bool{}
	for _, f := range goFiles(t) {
		said[f.dir] = said[f.dir] || f.ast.Doc != nil
	}
	for dir, ok := range said {
		if !ok {
			t.Errorf("%s: no package comment; write a doc.go", dir)
		}
	}
}

func TestFilesHoldOneConcept(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.lines > 550 && !f.generated && !f.test {
			t.Errorf("%s has %d lines; split it by concept", f.path, f.lines)
		}
	}
}

var (
	vagueFolder = regexp.MustCompile(`(^|/)(util|utils|common|helper|helpers|misc|types|base)(/|$)`)
	promise     = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
)

func TestNamesAndPromises(t *testing.T) {
	for _, f := range goFiles(t) {
		if vagueFolder.MatchString(f.dir) {
			t.Errorf("%s: the folder's name explains nothing", f.path)
		}
		for _, g := range f.ast.Comments {
			if promise.MatchString(g.Text()) {
				t.Errorf("%s: a promise in a comment: %.60q", f.path, g.Text())
			}
		}
	}
}
