<?php
declare(strict_types=1);

/**
 * What a Follower needs of a Swoole\Table, for a process without Swoole and for tests. It refuses where that does: rows whose hash is taken
 * come from a pool of $conflicts × $size rows, and when that is empty, a new row is refused with a warning.
 */
final class LocalTable
{
    public const TYPE_INT = 1;
    public const TYPE_STRING = 3;

    private array $rows = [];
    private array $buckets = [];
    private array $widths = [];
    private int $size = 64;
    private int $pool;

    public function __construct(int $size, float $conflicts = 0.2)
    {
        while ($this->size < $size) {
            $this->size <<= 1;
        }
        $this->pool = (int) ($this->size * min(max($conflicts, 0.2), 1.0));
    }

    public function column(string $name, int $type, int $bytes = 0): bool
    {
        $this->widths[$name] = $type === self::TYPE_STRING ? $bytes : 0;
        return true;
    }

    public function create(): bool
    {
        return true;
    }

    public function set(string $row, array $values): bool
    {
        if (!isset($this->rows[$row])) {
            $bucket = $this->bucket($row);
            if (($this->buckets[$bucket] ?? 0) > 0 && $this->pool-- === 0) {
                $this->pool = 0;
                trigger_error('unable to allocate memory', E_USER_WARNING);
                return false;
            }
            $this->buckets[$bucket] = ($this->buckets[$bucket] ?? 0) + 1;
            $this->rows[$row] = array_map(fn (int $width) => $width ? '' : 0, $this->widths);
        }
        foreach ($values as $column => $value) {
            $this->rows[$row][$column] = $this->widths[$column] ? substr($value, 0, $this->widths[$column]) : $value;
        }
        return true;
    }

    public function get(string $row, ?string $column = null): mixed
    {
        return $column === null ? $this->rows[$row] ?? false : $this->rows[$row][$column] ?? false;
    }

    public function incr(string $row, string $column): int
    {
        return ++$this->rows[$row][$column];
    }

    public function count(): int
    {
        return count($this->rows);
    }

    private function bucket(string $row): int
    {
        $hash = 5381;
        foreach (unpack('C*', substr($row, 0, 63)) as $byte) {
            $hash = ($hash * 33 + $byte) & 0xFFFFFFFFFFFF;
        }
        return $hash & ($this->size - 1);
    }
}
