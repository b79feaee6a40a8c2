package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// letterIDOf reads an id (source@offset.index), or source, offset and index apart.
func letterIDOf(a []string) (id replica.LetterID, err error) {
	if len(a) == 1 {
		id, ok := replica.ParseLetterID(a[0])
		if !ok {
			return id, usageError{errors.New("this is not a dead letter's id; its form is SOURCE@OFFSET.INDEX, or give SOURCE OFFSET [INDEX]")}
		}
		return id, nil
	}
	id.Source = a[0]
	if id.Offset, err = strconv.ParseInt(a[1], 10, 64); err != nil {
		return id, usageError{fmt.Errorf("offset %q is not a number", a[1])}
	}
	if len(a) == 3 {
		if id.Index, err = strconv.Atoi(a[2]); err != nil {
			return id, usageError{fmt.Errorf("index %q is not a number", a[2])}
		}
	}
	return id, nil
}

func lettersEdit(p *program) *cobra.Command {
	var file, key, reason string
	var version int64
	var apply bool
	cmd := p.apiCommand(&cobra.Command{
		Use: "edit ID | SOURCE OFFSET [INDEX]", Short: "Publish a corrected event in the place of an open dead letter",
		Long: "Publishes the record's corrected state through the admin API, which checks it against the dataset's schema and writes the audit\n" +
			"log. The event gets a new id and keeps the dead letter's key and version, so a record that is as new or newer already is not touched\n" +
			"and the dead letter is superseded. Workers apply the event like any other; if it cannot be published, the dead letter stays open.",
		Args: args(cobra.RangeArgs(1, 3)),
	}, func(ctx context.Context, a *apiClient, args []string) error {
		id, err := letterIDOf(args)
		if err != nil {
			return err
		}
		body := map[string]any{"why": reason, "dry_run": !apply}
		if data, err := editData(p, file); err != nil {
			return err
		} else if data != nil {
			body["data"] = data
		}
		if key != "" {
			body["key"] = key
		}
		if version != 0 {
			body["version"] = version
		}
		var e api.Edit
		raw, err := a.call(ctx, http.MethodPost, "/v1/deadletters/"+url.PathEscape(id.String())+"/edit", body, &e)
		if err != nil {
			return err
		}
		return p.hintApply(!apply && !p.json, printEdit(p, raw, &e))
	})
	fs := cmd.Flags()
	fs.StringVar(&file, "data", "", "file with the corrected state, a JSON object; -: standard input")
	fs.StringVar(&key, "key", "", "the record's key, if the dead letter keeps no usable one")
	fs.Int64Var(&version, "version", 0, "the change's version, if the dead letter keeps none")
	fs.StringVar(&reason, "reason", "by hand", "why; it is kept in the audit log")
	bindApply(cmd, &apply)
	return cmd
}

// editData reads the corrected state; nil without a file, which suits a letter of a delete.
func editData(p *program, file string) (json.RawMessage, error) {
	var in io.Reader
	switch file {
	case "":
		return nil, nil
	case "-":
		in = p.in
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, usageError{fmt.Errorf("--data: %w", err)}
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, schemas.MaxRecordBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read --data: %w", err)
	case len(data) > schemas.MaxRecordBytes:
		return nil, usageError{errors.New("--data is above 1,000,000 bytes, which no record may have")}
	case !json.Valid(data):
		return nil, usageError{errors.New("--data is not JSON; give the record's full state as a JSON object")}
	}
	return data, nil
}

func printEdit(p *program, raw json.RawMessage, e *api.Edit) error {
	if p.json {
		return p.printRaw(raw)
	}
	switch {
	case e.Outcome == string(replica.OutcomeStale) && e.DryRun:
		fmt.Fprintf(p.out, "the record is as new as version %d or newer: nothing would be published, and the dead letter would be superseded\n", e.Version)
	case e.Outcome == string(replica.OutcomeStale):
		fmt.Fprintf(p.out, "the record is as new as version %d or newer: nothing was published, and the dead letter is superseded\n", e.Version)
	case e.DryRun:
		fmt.Fprintf(p.out, "the data is good; an event would be published under version %d in the place of %s\n", e.Version, e.Replaces)
	default:
		fmt.Fprintf(p.out, "event %s is published under version %d in the place of %s\ntoken %s\n", e.EventID, e.Version, e.Replaces, e.Token)
	}
	if e.Detail != "" {
		fmt.Fprintln(p.out, e.Detail)
	}
	return nil
}
