package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/workers/agent"
)

var rewrite = flag.Bool("rewrite", false, "write docs/reference instead of comparing with it")

// The reference pages say what the code says. Regenerate them with
//
//	go test ./cmd/kvasir -run TestReferencePages -rewrite
func TestReferencePages(t *testing.T) {
	for name, page := range map[string]func(*testing.T) string{
		"cli.md": cliPage, "config.md": configPage, "metrics.md": metricsPage, "errors.md": errorsPage,
	} {
		t.Run(name, func(t *testing.T) {
			file, got := filepath.Join("../../docs/reference", name), page(t)
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("%s is out of date (%v); run make generate", file, err)
			}
		})
	}
}

const generated = "<!-- Generated from the code by make generate; edits are lost. -->\n\n"

func cliPage(*testing.T) string {
	var b strings.Builder
	b.WriteString(generated + "# The command line\n\nExit codes: 0 done; 1 tried and failed; 2 not tried: bad usage.\n")
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n    %s\n", c.CommandPath(), c.Short, c.UseLine())
		if c.Long != "" {
			fmt.Fprintf(&b, "\n%s\n", c.Long)
		}
		if c.HasLocalFlags() {
			b.WriteString("\n| flag | default | |\n|---|---|---|\n")
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, f.DefValue, f.Usage)
			})
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	return b.String()
}

// configPage takes the settings' comments from the source.
func configPage(t *testing.T) string {
	structs := map[string]*ast.StructType{}
	for _, file := range []string{"config.go", "tenants.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), "../../internal/config/"+file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.TypeSpec); ok {
				if st, ok := s.Type.(*ast.StructType); ok {
					structs[s.Name.Name] = st
				}
			}
			return true
		})
	}
	var b strings.Builder
	b.WriteString(generated + "# Settings\n\nOne YAML file, strictly parsed. Settings outside lists can be given in the environment too:\n" +
		"`tiers.disk.path` is `KVASIR_TIERS_DISK_PATH`. Flags win over the environment, the environment over the file.\n" +
		"Sizes are written as `32Ki` or `4GB`, times as `250ms`.\n\n| setting | default | |\n|---|---|---|\n")
	settings(&b, structs, "Config", "", reflect.ValueOf(*config.Default()))
	b.WriteString("\n## The keys file\n\nWhat `auth.keys_file` names: who may use the gateway. It is read again when it changes.\n\n| setting | default | |\n|---|---|---|\n")
	settings(&b, structs, "Tenants", "", reflect.ValueOf(config.Tenants{}))
	b.WriteString("\n## Names from other systems\n\nRead from the environment where neither the file nor our own variable sets the value.\n\n| variable | setting |\n|---|---|\n")
	for _, a := range config.Aliases {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", a.Name, a.Setting)
	}
	return b.String()
}

func settings(b *strings.Builder, structs map[string]*ast.StructType, name, prefix string, v reflect.Value) {
	for _, f := range structs[name].Fields.List {
		path := prefix + reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
		fv := reflect.Value{}
		if v.IsValid() {
			fv = v.FieldByName(f.Names[0].Name)
		}
		typ := f.Type
		if p, ok := typ.(*ast.StarExpr); ok {
			typ, fv = p.X, reflect.Value{}
		}
		if list, ok := typ.(*ast.ArrayType); ok {
			typ, fv, path = list.Elt, reflect.Value{}, path+"[]"
		}
		def := ""
		if fv.IsValid() && !fv.IsZero() {
			def = fmt.Sprintf("`%v`", fv.Interface())
		}
		ident, _ := typ.(*ast.Ident)
		nested := ident != nil && structs[ident.Name] != nil
		if nested {
			def = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", path, def, strings.Join(strings.Fields(f.Doc.Text()), " "))
		if nested {
			settings(b, structs, ident.Name, path+".", fv)
		}
	}
}

var descPattern = regexp.MustCompile(`fqName: "([^"]*)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}`)

func metricsPage(t *testing.T) string {
	var b bytes.Buffer
	b.WriteString(generated + "# Metrics\n\nPrometheus, on `/metrics`. Both also export the Go runtime's `go_*` and `process_*`.\n")
	for _, part := range []struct {
		title string
		reg   *prometheus.Registry
	}{
		{"Gateway", gatewayRegistry(t)},
		{"Agent", agentRegistry()},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | labels | |\n|---|---|---|\n", part.title)
		ch := make(chan *prometheus.Desc)
		go func() { part.reg.Describe(ch); close(ch) }()
		var rows []string
		for d := range ch {
			m := descPattern.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			if strings.HasPrefix(m[1], "kvasir_") || strings.HasPrefix(m[1], "kvbm_") {
				rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], m[3], strings.ReplaceAll(m[2], `\"`, `"`)))
			}
		}
		slices.Sort(rows)
		b.WriteString(strings.Join(slices.Compact(rows), ""))
	}
	return b.String()
}

func gatewayRegistry(t *testing.T) *prometheus.Registry {
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	log, err := newLogger(cfg.Telemetry)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFront(cfg, log, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.listener.Close() })
	return f.registry
}

func agentRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(agent.Collector{}, agent.KVBMNames{})
	return reg
}

func errorsPage(*testing.T) string {
	var b strings.Builder
	b.WriteString(generated + "# Errors\n\nEvery error is OpenAI's `{\"error\":{\"message\",\"type\",\"param\",\"code\"}}`. After the first byte of a stream it\narrives as a server-sent event, and the stream ends.\n\n| code | status | type | |\n|---|---|---|---|\n")
	for _, e := range gateway.ErrorKinds {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", e.Code, e.Status, e.Type, e.Means)
	}
	return b.String()
}
