"""Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags"."""
import base64
import hashlib
import re

MAX_BYTES = 512


def render(template, values):
    """Returns the cache key that template gives for values (property to string, integer or boolean), or None: then there is no key."""
    missing = []

    def encoded(match):
        value = values.get(match.group(1))
        if value is None:
            missing.append(match.group(1))
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if not isinstance(value, (int, str)):
            raise TypeError(f"render {template}: {match.group(1)} is a {type(value).__name__}; give a string, an integer or a boolean")
        return re.sub(r"[\x00-\x20\x7f%:{}]", lambda c: "%%%02X" % ord(c.group()), str(value))

    name = re.sub(r"\{(\w+)\}", encoded, template)
    if missing:
        return None
    if len(name.encode()) > MAX_BYTES:
        digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).rstrip(b"=").decode()
        return template.partition("{")[0] + "%." + digest
    return name
