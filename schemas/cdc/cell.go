package cdc

import (
	"encoding/base64"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// cell is one value in a form that no longer depends on the tool that wrote it.
type cell struct {
	kind cellKind
	text string
}

type cellKind uint8

const (
	cellNull     cellKind = iota
	cellInteger           // canonical decimal
	cellNumber            // an exact number, as a JSON literal
	cellFloat             // a binary number, as a JSON literal
	cellBoolean           // true or false
	cellText              // text
	cellBytes             // the bytes themselves
	cellDateTime          // 2006-01-02 15:04:05[.999999], or with month or day 00
	cellDate              // 2006-01-02, or with month or day 00
	cellJSON              // a JSON text
)

// refuse names the column; never its value.
func (c *column) refuse(problem, fix string) error {
	return &schemas.FieldError{Field: "data/" + c.Name, Problem: problem, Fix: fix, Reason: schemas.ReasonSchema}
}

// undeclared is the refusal of a value whose meaning only the column's type tells.
func (c *column) undeclared() error {
	return c.refuse("is written in a form that its property does not explain", "declare its type: cdc.columns."+c.Name+": the type by SHOW COLUMNS")
}

func (c *column) mismatch() error {
	return c.refuse("is not a value of its column's type", "compare cdc.columns and the schema with the captured table")
}

// keyValue returns the form that Dataset.FormatKey wants.
func (c *column) keyValue(cl cell) (any, error) {
	switch c.Kind {
	case schemas.KindString:
		switch cl.kind {
		case cellBytes:
			return base64.StdEncoding.EncodeToString([]byte(cl.text)), nil
		case cellText, cellInteger, cellDate, cellDateTime:
			return cl.text, nil
		default:
		}
	case schemas.KindInteger:
		if cl.kind == cellInteger {
			return integerValue(cl.text, c.Unsigned, c)
		}
	case schemas.KindBoolean:
		switch {
		case cl.kind == cellBoolean:
			return cl.text == "true", nil
		case cl.kind == cellInteger && (cl.text == "0" || cl.text == "1"):
			return cl.text == "1", nil
		}
	default:
	}
	return nil, c.mismatch()
}

// write appends the cell as the JSON that the property wants.
func (c *column) write(buf []byte, cl cell, rules *schemas.CDCRules) ([]byte, error) {
	if cl.kind == cellNull {
		return append(buf, "null"...), nil
	}
	switch c.Kind {
	case schemas.KindString:
		if cl.kind == cellBytes {
			return schemas.AppendJSONString(buf, base64.StdEncoding.EncodeToString([]byte(cl.text))), nil
		}
		return schemas.AppendJSONString(buf, cl.text), nil
	case schemas.KindInteger:
		switch cl.kind {
		case cellInteger, cellNumber:
			return append(buf, cl.text...), nil
		case cellBoolean:
			return append(buf, zeroOrOne(cl.text == "true")), nil
		default:
		}
	case schemas.KindNumber:
		if cl.kind == cellInteger || cl.kind == cellNumber || cl.kind == cellFloat {
			return append(buf, cl.text...), nil
		}
	case schemas.KindDecimal:
		return c.writeDecimal(buf, cl)
	case schemas.KindBoolean:
		return c.writeBoolean(buf, cl)
	case schemas.KindDateTime, schemas.KindDate:
		return c.writeTime(buf, cl, rules)
	case schemas.KindJSON:
		if cl.kind == cellJSON || cl.kind == cellText {
			v, err := schemas.ReadJSON(cl.text)
			if err != nil {
				return buf, c.refuse("is not valid JSON", "")
			}
			return appendRaw(buf, v), nil
		}
	}
	return buf, c.mismatch()
}

func zeroOrOne(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

func (c *column) writeDecimal(buf []byte, cl cell) ([]byte, error) {
	switch cl.kind {
	case cellInteger, cellNumber:
		text, ok := plainDecimal(cl.text, c.Scale)
		if !ok {
			return buf, c.refuse("is not a decimal that fits its x-decimal", "")
		}
		return schemas.AppendJSONString(buf, text), nil
	case cellFloat:
		return buf, c.refuse("is a binary number, which does not hold every decimal", "set decimal.handling.mode to string, or make the property a number")
	default:
	}
	return buf, c.mismatch()
}

func (c *column) writeBoolean(buf []byte, cl cell) ([]byte, error) {
	switch {
	case cl.kind == cellBoolean:
		return append(buf, cl.text...), nil
	case cl.kind == cellInteger && cl.text == "0":
		return append(buf, "false"...), nil
	case cl.kind == cellInteger && cl.text == "1":
		return append(buf, "true"...), nil
	case cl.kind == cellInteger:
		return buf, c.refuse("is neither 0 nor 1", "make the property an integer")
	}
	return buf, c.mismatch()
}

func (c *column) writeTime(buf []byte, cl cell, rules *schemas.CDCRules) ([]byte, error) {
	if (c.Kind == schemas.KindDate) != (cl.kind == cellDate) || (c.Kind == schemas.KindDateTime) != (cl.kind == cellDateTime) {
		return buf, c.mismatch()
	}
	if isZeroDate(cl.text) {
		if rules.ClearZeroDates {
			return append(buf, "null"...), nil
		}
		return buf, c.refuse("is a date that does not exist", "write cdc.zero_dates: clear to store NULL, or make the property a plain string")
	}
	if c.Kind == schemas.KindDate {
		return schemas.AppendJSONString(buf, cl.text), nil
	}
	return schemas.AppendJSONString(buf, strings.Replace(cl.text, " ", "T", 1)+"Z"), nil
}

// damaged: the replacement character stands for text that a tool could not read.
func damaged(text string) bool { return strings.Contains(text, "\uFFFD") }
