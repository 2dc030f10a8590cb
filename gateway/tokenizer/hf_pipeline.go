package tokenizer

import (
	"encoding/json"
	"fmt"

	"golang.org/x/text/unicode/norm"
)

func unsupported(part string, c *component) error {
	return fmt.Errorf("%w: tokenizer.json's %s has a %s that is not understood", ErrUnsupported, part, c.Type)
}

func (d *definition) setNormalizer(c *component) error {
	if c == nil {
		return nil
	}
	list := []component{*c}
	if c.Type == "Sequence" {
		list = c.Normalizers
	}
	forms := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}
	for i := range list {
		c := &list[i]
		form, isForm := forms[c.Type]
		// Rewriting after spaces were marked would see the marks.
		late := d.markSpaces || d.normalizer.prefix != prefixNever
		switch {
		case c.Type == "Sequence" && len(c.Normalizers) == 0:
		case c.Type == "Prepend" && c.Prepend == spaceMark && d.normalizer.prefix == prefixNever:
			d.normalizer.prefix = prefixNormalizer
		case c.Type == "Replace" && c.Pattern.String != nil && *c.Pattern.String == " " && c.Content == spaceMark:
			d.markSpaces = true
		case isForm && !late:
			d.normalizer.steps = append(d.normalizer.steps, formStep(form))
			d.normalizer.nfc = c.Type == "NFC" && len(d.normalizer.steps) == 1
		case c.Type == "Replace" && c.Pattern.String != nil && *c.Pattern.String != "" && !late:
			d.normalizer.steps = append(d.normalizer.steps, replaceStep(*c.Pattern.String, c.Content))
			d.normalizer.nfc = false
		case c.Type == "Prepend" && c.Prepend != spaceMark && !late:
			d.normalizer.steps = append(d.normalizer.steps, prependStep(c.Prepend))
			d.normalizer.nfc = false
		default:
			return unsupported("normalizer", c)
		}
	}
	if d.normalizer.prefix != prefixNever && !d.markSpaces {
		return unsupported("normalizer", c)
	}
	return nil
}

func (d *definition) setPreTokenizer(c *component) error {
	if c == nil {
		return nil
	}
	list := []component{*c}
	if c.Type == "Sequence" {
		list = c.Pretokenizers
	}
	for i := range list {
		if err := d.addPreTokenizer(&list[i], i == 0); err != nil {
			return err
		}
	}
	return nil
}

func (d *definition) addPreTokenizer(c *component, first bool) error {
	switch {
	case c.Type == "Metaspace" && first && len(d.normalizer.steps) == 0 && d.normalizer.prefix == prefixNever:
		return d.setMetaspace(c)
	case d.markSpaces:
		// After the normalizer there is no space left to split at (Gemma).
		if c.Type == "Split" && c.Pattern.String != nil && *c.Pattern.String == " " {
			return nil
		}
	case c.Type == "ByteLevel" && !d.byteLevel:
		d.byteLevel = true
		if c.AddPrefixSpace == nil || *c.AddPrefixSpace {
			if !first || d.normalizer.prefix != prefixNever {
				break
			}
			d.normalizer.prefix = prefixEach
		}
		if c.UseRegex == nil || *c.UseRegex {
			return d.addPattern(patternGPT2)
		}
		return nil
	case c.Type == "Digits" && !d.byteLevel:
		d.stages = append(d.stages, digitsStage(c.IndividualDigits))
		return nil
	case c.Type == "Split" && c.Pattern.Regex != nil && !d.byteLevel && c.covers():
		return d.addPattern(*c.Pattern.Regex)
	}
	return unsupported("pre_tokenizer", c)
}

// covers says whether the matches and what lies between them are the pieces.
// Inverted removal drops what lies between, so the pattern must match all text,
// which is known of some.
func (c *component) covers() bool {
	if c.Behavior == "Isolated" {
		return true
	}
	if c.Behavior != "Removed" || !c.Invert {
		return false
	}
	switch *c.Pattern.Regex {
	case patternGPT2, patternCL100K, patternQwen2, patternQwen35, patternO200K, patternTekken:
		return true
	}
	return false
}

func (d *definition) addPattern(pattern string) error {
	s, err := patternStage(pattern)
	if err == nil {
		d.stages = append(d.stages, s)
	}
	return err
}

func (d *definition) setMetaspace(c *component) error {
	if c.Replacement != spaceMark {
		return unsupported("pre_tokenizer", c)
	}
	d.markSpaces = true
	d.splitSpaces = c.Split == nil || *c.Split
	switch {
	case c.PrependScheme == "never", c.PrependScheme == "" && c.AddPrefixSpace != nil && !*c.AddPrefixSpace:
		d.normalizer.prefix = prefixNever
	case c.PrependScheme == "first":
		d.normalizer.prefix = prefixFirst
	default:
		d.normalizer.prefix = prefixEach
	}
	return nil
}

func (d *definition) setDecoder(c *component) error {
	if c == nil {
		d.decoder.join = true
		return nil
	}
	list := []component{*c}
	if c.Type == "Sequence" {
		list = c.Decoders
	}
	spaces, fused := false, false
	for i := range list {
		c := &list[i]
		switch {
		case c.Type == "ByteLevel" && len(list) == 1:
			d.decoder.byteLevel = true
			return nil
		case c.Type == "Metaspace" && c.Replacement == spaceMark && len(list) == 1:
			spaces = true
			d.decoder.bareFirst = c.PrependScheme != "never"
		case c.Type == "Replace" && c.Pattern.String != nil && *c.Pattern.String == spaceMark && c.Content == " ":
			spaces = true
		case c.Type == "ByteFallback":
			d.decoder.byteFallback = true
		case c.Type == "Fuse":
			fused = true
		case c.Type == "Strip" && fused && c.Content == " " && c.Stop == 0 && c.Start >= 0:
			d.decoder.strip = c.Start
		default:
			return unsupported("decoder", c)
		}
	}
	if !spaces {
		return unsupported("decoder", c)
	}
	return nil
}

// setPostProcessor reads what is put around a text. ByteLevel only moves offsets.
func (d *definition) setPostProcessor(c *component) error {
	if c == nil {
		return nil
	}
	list := []component{*c}
	if c.Type == "Sequence" {
		list = c.Processors
	}
	for i := range list {
		c := &list[i]
		var prefix, suffix []uint32
		var err error
		switch c.Type {
		case "ByteLevel":
			continue
		case "TemplateProcessing":
			prefix, suffix, err = c.template()
		case "BertProcessing", "RobertaProcessing":
			prefix, suffix, err = c.pair()
		default:
			err = unsupported("post_processor", c)
		}
		if err != nil {
			return err
		}
		d.prefix = append(prefix, d.prefix...)
		d.suffix = append(d.suffix, suffix...)
	}
	return nil
}

func (c *component) template() (prefix, suffix []uint32, err error) {
	seen := false
	for _, p := range c.Single {
		switch {
		case p.Sequence != nil && !seen:
			seen = true
		case p.SpecialToken != nil && seen:
			suffix = append(suffix, c.SpecialTokens[p.SpecialToken.ID].IDs...)
		case p.SpecialToken != nil:
			prefix = append(prefix, c.SpecialTokens[p.SpecialToken.ID].IDs...)
		default:
			return nil, nil, unsupported("post_processor", c)
		}
	}
	if !seen {
		return nil, nil, unsupported("post_processor", c)
	}
	return prefix, suffix, nil
}

// pair reads cls and sep, each ["text", id].
func (c *component) pair() (prefix, suffix []uint32, err error) {
	var out [2]uint32
	for i, raw := range []json.RawMessage{c.Cls, c.Sep} {
		var name string
		if err := json.Unmarshal(raw, &[]any{&name, &out[i]}); err != nil {
			return nil, nil, fmt.Errorf("tokenizer.json: post_processor: %w", err)
		}
	}
	return out[:1], out[1:], nil
}
