package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

func newTokenize() *cobra.Command {
	var model string
	var lines, decode, special bool
	c := &cobra.Command{
		Use:   "tokenize --model DIR|tokenizer.json|FILE.gguf",
		Short: "Turn text on stdin into token ids, or back",
		Long: `Reads all of stdin as text and prints a JSON array of ids. With --jsonl each
line is a JSON string and gives one array a line. --decode goes the other way:
arrays in, text (or, with --jsonl, JSON strings) out.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if model == "" {
				return usagef("--model is missing; give a model folder, a tokenizer.json or a .gguf file")
			}
			t, err := tokenizer.Load(model)
			if err != nil {
				return err
			}
			w := bufio.NewWriter(c.OutOrStdout())
			defer w.Flush()
			convert := encoder(t, lines, special)
			if decode {
				convert = decoder(t, lines)
			}
			if lines {
				return eachLine(c.InOrStdin(), w, convert)
			}
			in, err := io.ReadAll(c.InOrStdin())
			if err != nil {
				return err
			}
			out, err := convert(in)
			if err != nil {
				return err
			}
			_, err = w.Write(out)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&model, "model", "", "model folder, tokenizer.json or .gguf file")
	f.BoolVar(&lines, "jsonl", false, "one JSON value a line")
	f.BoolVar(&decode, "decode", false, "ids in, text out")
	f.BoolVar(&special, "special", false, "add the model's BOS and EOS as its post-processor says")
	return c
}

// encoder turns text into a line with an array of ids.
func encoder(t *tokenizer.Tokenizer, isJSON, special bool) func([]byte) ([]byte, error) {
	return func(in []byte) ([]byte, error) {
		text := string(in)
		if isJSON {
			if err := json.Unmarshal(in, &text); err != nil {
				return nil, fmt.Errorf("not a JSON string: %w", err)
			}
		}
		ids, err := t.TryEncode(make([]uint32, 0, len(text)/3), text, special)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(ids)
		return append(b, '\n'), err
	}
}

// decoder turns an array of ids into text, as it is or as a JSON string a line.
func decoder(t *tokenizer.Tokenizer, asJSON bool) func([]byte) ([]byte, error) {
	return func(in []byte) ([]byte, error) {
		var ids []uint32
		if err := json.Unmarshal(in, &ids); err != nil {
			return nil, fmt.Errorf("not a JSON array of ids: %w", err)
		}
		for _, id := range ids {
			if int(id) >= t.VocabSize() {
				return nil, fmt.Errorf("id %d is outside the vocabulary of %d", id, t.VocabSize())
			}
		}
		text := t.Decode(nil, ids, false)
		if !asJSON {
			return text, nil
		}
		b, err := json.Marshal(string(text))
		return append(b, '\n'), err
	}
}

// eachLine converts r line by line and names the line of a problem.
func eachLine(r io.Reader, w io.Writer, convert func([]byte) ([]byte, error)) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 1<<20), 1<<30)
	for n := 1; s.Scan(); n++ {
		out, err := convert(s.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return s.Err()
}
