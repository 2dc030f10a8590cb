package dialect

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

// Dialect is how one model is spoken to.
type Dialect struct {
	Tokenizer *tokenizer.Tokenizer
	// Renderer of chats; nil: only the engine renders them.
	Renderer chattemplate.Renderer
	// Broken is why the model's own renderer does not run here, if it has one.
	Broken error

	literal bool // a prompt's text holds no special tokens
}

// Load reads the model at path: what tokenizer.Load takes, and its config.json.
func Load(path string, now time.Time) (*Dialect, error) {
	files, err := findFiles(path)
	if err != nil {
		return nil, err
	}
	d := &Dialect{}
	if d.Tokenizer, err = tokenizer.Load(files.tokenizer); err != nil {
		return nil, err
	}
	if d.Renderer, d.Broken = files.renderer(d.Tokenizer); d.Renderer != nil {
		d.Broken = d.try(now)
	}
	if d.Broken != nil {
		d.Renderer = nil
	}
	_, d.literal = d.Renderer.(chattemplate.Mistral)
	return d, nil
}

// Raised is the kind of error that a template raises itself, to refuse a chat.
const Raised = "TemplateError"

// try renders a small chat. A renderer that refuses it works.
func (d *Dialect) try(now time.Time) error {
	prompt, err := d.Renderer.Prompt(chattemplate.Chat{
		Messages:            []byte(`[{"role":"user","content":"Hello"}]`),
		AddGenerationPrompt: true, SpecialTokens: d.Tokenizer.SpecialTokens(), Now: now,
	})
	if err == nil {
		_, err = d.EncodePrompt(nil, prompt, false)
		return err
	}
	var broken *chattemplate.Error
	if errors.As(err, &broken) && broken.Kind != Raised {
		return err
	}
	return nil
}

// Encode appends the ids of a completion's prompt; addSpecial is for what the
// model's post-processor adds.
func (d *Dialect) Encode(dst []uint32, text string, addSpecial bool) ([]uint32, error) {
	if !d.literal {
		return d.Tokenizer.TryEncode(dst, text, addSpecial)
	}
	if bos, ok := d.Tokenizer.BOS(); ok && addSpecial {
		dst = append(dst, bos)
	}
	return d.Tokenizer.TryEncodePlain(dst, text)
}

// EncodePrompt appends the ids of a rendered chat. An engine looks at addSpecial
// only where it encodes what a template made.
func (d *Dialect) EncodePrompt(dst []uint32, p chattemplate.Prompt, addSpecial bool) ([]uint32, error) {
	_, isTemplate := d.Renderer.(*chattemplate.Template)
	for _, piece := range p {
		var err error
		switch piece.Kind {
		case chattemplate.Markup:
			dst, err = d.Tokenizer.TryEncode(dst, piece.Text, addSpecial && isTemplate)
		case chattemplate.Plain:
			dst, err = d.Tokenizer.TryEncodePlain(dst, piece.Text)
		case chattemplate.Control:
			id, ok := d.Tokenizer.ID(piece.Text)
			if !ok {
				return nil, fmt.Errorf("the model's vocabulary has no token %s; is this tokenizer the model's own?", piece.Text)
			}
			dst = append(dst, id)
		}
		if err != nil {
			return nil, err
		}
	}
	return dst, nil
}
