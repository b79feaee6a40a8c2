<?php
declare(strict_types=1);

/** Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags". */
final class Names
{
    private const MAX_BYTES = 512;

    /**
     * Returns the cache key that $template makes of $values, or null if one is missing: then there is no key. $kinds: property to "integer",
     * "string" or "boolean". What is not the one spelling of such a value is refused: a worker would never name it.
     */
    public static function render(string $template, array $kinds, array $values): ?string
    {
        $missing = false;
        $name = preg_replace_callback('/\{([^{}]+)\}/', function (array $match) use ($template, $kinds, $values, &$missing): string {
            $value = $values[$match[1]] ?? null;
            if ($value === null) {
                $missing = true;
                return '';
            }
            $kind = $kinds[$match[1]];
            $text = self::text($kind, $value) ?? throw new InvalidArgumentException("render $template: {$match[1]} is not the only spelling of a $kind: convert it before");
            return preg_replace_callback('/[\x00-\x20\x7F%:{}]/', fn (array $c) => sprintf('%%%02X', ord($c[0])), $text);
        }, $template);
        if ($missing) {
            return null;
        }
        if (strlen($name) <= self::MAX_BYTES) {
            return $name;
        }
        return explode('{', $template, 2)[0] . '%.' . rtrim(strtr(base64_encode(hash('sha256', $name, true)), '+/', '-_'), '=');
    }

    private static function text(string $kind, mixed $value): ?string
    {
        return match (true) {
            $kind === 'boolean' && is_bool($value) => $value ? 'true' : 'false',
            $kind === 'integer' && is_int($value) => (string) $value,
            $kind === 'integer' && is_string($value) && preg_match('/^(0|-?[1-9][0-9]*)$/D', $value) === 1 => $value,
            $kind === 'string' && is_string($value) && preg_match('//u', $value) === 1 => $value, // in UTF-8
            default => null,
        };
    }
}
