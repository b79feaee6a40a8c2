// Package text has the console's texts in each language. The English text is the key of the others.
package text

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

//go:embed messages/*.json
var files embed.FS

// English is the language of the keys.
const English = "en"

// Language is one that the console has.
type Language struct {
	// Tag is the BCP 47 tag, Name what speakers call it.
	Tag, Name string
}

// Catalog has every text in every language. It does not change.
type Catalog struct {
	texts map[string]map[string]string // by tag, by English text
}

// Load reads the embedded files.
func Load() (*Catalog, error) {
	c := &Catalog{texts: map[string]map[string]string{}}
	for _, l := range Languages() {
		if l.Tag == English {
			continue
		}
		b, err := files.ReadFile(path.Join("messages", l.Tag+".json"))
		if err != nil {
			return nil, fmt.Errorf("read messages: %w", err)
		}
		var texts map[string]string
		if err := json.Unmarshal(b, &texts); err != nil {
			return nil, fmt.Errorf("read messages of %s: %w", l.Tag, err)
		}
		c.texts[l.Tag] = texts
	}
	return c, nil
}

// Languages are those that the console has.
func Languages() []Language {
	return []Language{{English, "English"}, {"zh-CN", "简体中文"}}
}

// Text returns the text that is key in English. With args it is a format of package fmt. A text that a language lacks is English.
func (c *Catalog) Text(tag, key string, args ...any) string {
	text, ok := c.texts[tag][key]
	if !ok {
		text = key
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Keys returns the English texts that a language has.
func (c *Catalog) Keys(tag string) map[string]string { return c.texts[tag] }

// Choose returns the language for a request: the preferred one if there is such a language, else the first of an Accept-Language header.
func Choose(preferred, accept string) string {
	for _, l := range Languages() {
		if l.Tag == preferred {
			return l.Tag
		}
	}
	for tag := range strings.SplitSeq(accept, ",") {
		tag, _, _ = strings.Cut(strings.TrimSpace(tag), ";")
		base, _, _ := strings.Cut(tag, "-")
		switch strings.ToLower(base) {
		case "zh":
			return "zh-CN"
		case "en":
			return English
		}
	}
	return English
}
