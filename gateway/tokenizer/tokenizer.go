package tokenizer

import "errors"

// ErrUnsupported marks a tokenizer that this package cannot run exactly.
var ErrUnsupported = errors.New("unsupported tokenizer")

// Tokenizer encodes and decodes for one model.
type Tokenizer struct{}

// Load reads a folder with tokenizer.json, a tokenizer.json or a .gguf file.
func Load(path string) (*Tokenizer, error) { return nil, ErrUnsupported }

// LoadJSON reads the bytes of a tokenizer.json.
func LoadJSON(b []byte) (*Tokenizer, error) { return nil, ErrUnsupported }

// Encode appends the ids of text to dst.
func (t *Tokenizer) Encode(dst []uint32, text string, addSpecial bool) []uint32 { return dst }

// Decode appends the text of ids to dst.
func (t *Tokenizer) Decode(dst []byte, ids []uint32, skipSpecial bool) []byte { return dst }

// VocabSize is one more than the largest id.
func (t *Tokenizer) VocabSize() int { return 0 }

// Token is the text of one piece.
func (t *Tokenizer) Token(id uint32) (string, bool) { return "", false }

// ID finds a piece by its text.
func (t *Tokenizer) ID(token string) (uint32, bool) { return 0, false }

// IsSpecial says whether id is a special token.
func (t *Tokenizer) IsSpecial(id uint32) bool { return false }

// EOS lists the ids that end a generation.
func (t *Tokenizer) EOS() []uint32 { return nil }

// BOS is the id that begins a prompt.
func (t *Tokenizer) BOS() (uint32, bool) { return 0, false }

// ChatTemplate is the model's Jinja source, empty if it has none.
func (t *Tokenizer) ChatTemplate() string { return "" }

// SpecialTokens maps bos_token, eos_token and so on to their text.
func (t *Tokenizer) SpecialTokens() map[string]string { return nil }

// DecoderOptions says how a stream of ids becomes text.
type DecoderOptions struct {
	SkipSpecial bool     // leave special tokens out of the text
	Stop        []string // end at the first of these
	IncludeStop bool     // keep the stop string in the text
}

// Decoder turns a stream of ids into text.
type Decoder struct{}

// NewDecoder starts a stream.
func (t *Tokenizer) NewDecoder(o DecoderOptions) *Decoder { return &Decoder{} }

// Push adds one id and returns the text that is now certain.
func (d *Decoder) Push(id uint32) (text string, stopped bool) { return "", false }

// Flush ends the stream.
func (d *Decoder) Flush() string { return "" }
