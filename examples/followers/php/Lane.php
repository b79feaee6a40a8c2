<?php
declare(strict_types=1);

/** What a follower knows of one lane, without any I/O. Only the process that follows calls it; readers see the tables. */
final class Lane
{
    public readonly string $prefix;
    /** @var string[] of the meta hash, as polled() takes their values */
    public readonly array $fields;
    public ?string $error = null;    // of the last poll
    private ?string $last = null;    // newest entry known
    private array $seen = [];        // entries received since the last poll
    private ?string $want = null;    // head of a poll that was not received yet,
    private int $wantAsked = 0;      // and when that poll was sent
    private int $doubt = PHP_INT_MIN; // the lane may have other cache sections since then
    private bool $exists = false;
    private string $counted = '';
    private int $losses = 0;         // polls that found that messages got lost, since the last message
    private const MAX_SEEN = 10_000;

    public function __construct(private Tables $tables, string $namespace, private int $number, private int $count, private array $hashes)
    {
        $this->prefix = '{fr:' . $namespace . ':' . $number . '}:';
        $this->fields = ['last', 'lanes', ...array_map(fn ($dataset) => "d:$dataset", array_keys($hashes))];
        $this->set('confirm', PHP_INT_MIN >> 1); // everything up to then was applied
    }

    public function message(string $frame): void
    {
        [$prev, $id, $payload] = array_pad(explode(' ', $frame, 3), 3, '');
        $change = json_decode($payload, true);
        $change = is_array($change) ? $change : [];
        foreach (array_filter((array) ($change['k'] ?? []), is_string(...)) as $key) {
            $this->tables->state->set($this->tables->slot(crc32($key)), ['n' => $this->tables->state->incr('clock', 'n')]);
        }
        $known = ($change['v'] ?? null) === 1 && !array_key_exists('x', $change);
        if (!$known) {
            $this->distrust(); // perhaps a flush for other cache sections
        }
        if (!$known || array_key_exists('g', $change) || $prev !== $this->last) {
            $this->flush($id);
        }
        $this->losses = 0;
        $this->last = $id;
        if (count($this->seen) >= self::MAX_SEEN) {
            $this->seen = []; // no poll succeeds; that a head was forgotten costs a flush
        }
        $this->seen[$id] = true;
        if ($id === $this->want) {
            $this->set('confirm', $this->wantAsked);
            $this->want = null;
        }
    }

    /**
     * Takes the values of $fields as a poll read them that was sent at the time $asked (Tables::now), false or null for those that are not there.
     * Returns false if messages get lost: subscribe again.
     */
    public function polled(array $values, int $asked): bool
    {
        [$last, $lanes] = [$values[0] ?: null, (string) ($values[1] ?? '')];
        [$this->error, $this->exists, $this->counted] = [null, $last !== null, $lanes];
        if ($last !== null && $lanes !== (string) $this->count) {
            $this->flush(null); // keys belong to other lanes than we believe
            $this->distrust();
            $this->set('confirm', PHP_INT_MIN >> 1);
            return true;
        }
        if ($asked > $this->doubt) {
            $this->agree($last === null ? [] : array_slice($values, 2));
        }
        $lost = false;
        if ($last === null) {
            $this->flush(null);
        } elseif ($last === $this->last || isset($this->seen[$last])) {
            $this->set('confirm', $asked);
            $this->want = null;
        } elseif ($this->want !== null || $this->last === null) {
            $lost = $this->last !== null;
            $this->flush($last);
            $this->set('confirm', $asked);
        } else {
            [$this->want, $this->wantAsked] = [$last, $asked];
        }
        $this->seen = $this->last === null ? [] : [$this->last => true];
        $this->losses += (int) $lost;
        return !$lost;
    }

    /** Returns how many entries are remembered until the next poll. */
    public function remembered(): int
    {
        return count($this->seen);
    }

    /** Whatever was published until now may be lost. */
    public function gap(): void
    {
        $this->flush(null);
    }

    /** @return string[] */
    public function notReady(float $maxStale): array
    {
        return match (true) {
            $this->error !== null => ["lane $this->prefix cannot be read: $this->error"],
            !$this->exists => ["lane $this->prefix does not exist: start a worker, or correct the namespace, the database number or a key prefix of the connection (Redis::OPT_PREFIX)"],
            $this->counted !== (string) $this->count => ["namespace has $this->counted lanes, the follower was made for $this->count: give it lanes: $this->counted"],
            $this->losses > 1, $this->tables->now() - $this->tables->number("confirm$this->number") > $maxStale * 1e9 =>
                ["lane $this->prefix: its messages do not arrive: allow the Redis user its channel; workers must not publish sharded"],
            default => array_map(
                fn ($dataset) => "dataset $dataset: its cache section differs from that of lane $this->prefix: give the hash that freshet schema hash prints, with the templates of that version",
                array_values(array_filter(array_keys($this->hashes), fn ($dataset) => $this->tables->number("agreed$this->number:$dataset") !== 1)),
            ),
        };
    }

    private function agree(array $hashes): void
    {
        foreach (array_keys($this->hashes) as $i => $dataset) {
            $agreed = (int) (($hashes[$i] ?? null) === $this->hashes[$dataset]);
            if ($agreed > $this->tables->number("agreed$this->number:$dataset")) {
                $this->set('flushed', $this->tables->state->incr('clock', 'n')); // keys may have been made otherwise until now
            }
            $this->set('agreed', $agreed, ":$dataset");
        }
    }

    private function distrust(): void
    {
        foreach (array_keys($this->hashes) as $dataset) {
            $this->set('agreed', 0, ":$dataset");
        }
        $this->doubt = $this->tables->now();
    }

    private function flush(?string $head): void
    {
        $this->set('flushed', $this->tables->state->incr('clock', 'n'));
        [$this->last, $this->want] = [$head, null];
    }

    private function set(string $what, int $number, string $of = ''): void
    {
        $this->tables->state->set($what . $this->number . $of, ['n' => $number]);
    }
}
