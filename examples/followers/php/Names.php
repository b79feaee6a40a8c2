<?php
declare(strict_types=1);

/** Cache keys from a dataset's templates: docs/protocol.md, "Cache keys and tags". */
final class Names
{
    private const MAX_BYTES = 512;

    /** Returns the cache key that $template gives for $values, or null if a property is missing: then there is no key. */
    public static function render(string $template, array $values): ?string
    {
        $missing = false;
        $name = preg_replace_callback('/\{(\w+)\}/', function (array $match) use ($template, $values, &$missing): string {
            $value = $values[$match[1]] ?? null;
            $missing = $missing || $value === null;
            return preg_replace_callback('/[\x00-\x20\x7F%:{}]/', fn (array $c) => sprintf('%%%02X', ord($c[0])), match (true) {
                $value === null => '',
                is_bool($value) => $value ? 'true' : 'false',
                is_int($value), is_string($value) => (string) $value,
                default => throw new TypeError("render $template: {$match[1]} is a " . get_debug_type($value) . '; give a string, an integer or a boolean'),
            });
        }, $template);
        if ($missing) {
            return null;
        }
        if (strlen($name) <= self::MAX_BYTES) {
            return $name;
        }
        return explode('{', $template, 2)[0] . '%.' . rtrim(strtr(base64_encode(hash('sha256', $name, true)), '+/', '-_'), '=');
    }
}
