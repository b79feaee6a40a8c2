"""Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags"."""
import base64
import hashlib
import re

MAX_BYTES = 512
PROPERTY = re.compile(r"\{([^{}]+)\}")

def sections_of(printed):
    """Returns dataset to section, of what freshet schema hash --json prints."""
    sections = {}
    for section in printed:
        if not isinstance(section.get("hash"), str) or section["hash"] in ("", "-"):
            raise ValueError(f"section of dataset {section.get('dataset')}: it has no hash; give what freshet schema hash --json prints")
        sections[section["dataset"]] = section
    return sections

def render(template, kinds, values):
    """Returns the cache key that template makes of values, or None if one is missing: then there is no key.

    kinds: property to "integer", "string" or "boolean". What is not the one spelling of such a value is refused: a worker would never name it.
    """
    missing = []

    def encoded(match):
        value = values.get(match.group(1))
        if value is None:
            missing.append(match.group(1))
            return ""
        text = text_of(kinds[match.group(1)], value)
        if text is None:
            raise ValueError(f"render {template}: {match.group(1)} is not the only spelling of a {kinds[match.group(1)]}: convert it before")
        return re.sub(r"[\x00-\x20\x7f%:{}]", lambda c: "%%%02X" % ord(c.group()), text)

    name = PROPERTY.sub(encoded, template)
    if missing:
        return None
    if len(name.encode()) > MAX_BYTES:
        digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).rstrip(b"=").decode()
        return template.partition("{")[0] + "%." + digest
    return name

def text_of(kind, value):
    if kind == "boolean" and isinstance(value, bool):
        return "true" if value else "false"
    if kind == "integer" and isinstance(value, int) and not isinstance(value, bool):
        return int.__str__(value)
    if kind == "integer" and isinstance(value, str) and re.fullmatch(r"0|-?[1-9][0-9]*", value):
        return str.__str__(value)
    if kind == "string" and isinstance(value, str):
        return str.__str__(value)
    return None
