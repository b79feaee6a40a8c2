<?php
declare(strict_types=1);

/** What a Follower needs of a Swoole\Table, for a process without Swoole. */
final class LocalTable
{
    private array $rows = [];

    public function __construct(private int $size = 100_000)
    {
    }

    public function set(string $row, array $values): bool
    {
        if (!isset($this->rows[$row]) && count($this->rows) >= $this->size) {
            return false; // as a full Swoole\Table does
        }
        $this->rows[$row] = $values + ($this->rows[$row] ?? []);
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
}
