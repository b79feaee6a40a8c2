<?php
declare(strict_types=1);
// Runs the frame vectors of the protocol, and the guard of a load: php vectors.php FRAMES.json
require __DIR__ . '/Follower.php';
require __DIR__ . '/LocalTable.php';

$failed = 0;

function want(string $name, bool $got, bool $wanted): void
{
    global $failed;
    if ($got !== $wanted) {
        $failed++;
        echo $name, ': got ', var_export($got, true), ', want ', var_export($wanted, true), "\n";
    }
}

function at(?string $last): Follower
{
    $f = new Follower(new LocalTable(), 5.0);
    $last === null || $f->head($last, hrtime(true));
    return $f;
}

function put(Follower $f, string $key): void
{
    $f->get($key, fn () => 'old');
}

function kept(Follower $f, string $key): bool
{
    return $f->get($key, fn () => 'new') === 'old';
}

foreach (json_decode(file_get_contents($argv[1]), true, 512, JSON_THROW_ON_ERROR) as $vector) {
    if ($vector['strict'] ?? false) {
        continue;
    }
    $name = $vector['name'];
    $payload = $vector['payload'] ?? [];
    $keys = $payload['k'] ?? [];
    $f = at(($vector['last'] ?? '') ?: ($vector['prev'] ?? '') ?: '0-0');
    array_map(fn ($key) => put($f, $key), ['other', ...$keys]);
    $f->message($vector['frame']);
    $flushed = isset($vector['error']) || !$vector['follows'] || isset($payload['x']) || isset($payload['g']);
    want($name, kept($f, 'other'), !$flushed);
    foreach ($keys as $key) {
        want("$name: $key", kept($f, $key), false);
    }
    if ($vector['id'] ?? '') { // the next entry follows this one
        put($f, 'after');
        $f->message($vector['id'] . ' 9-9 {"v":1}');
        want("$name, then the next", kept($f, 'after'), true);
    }
}

foreach ([
    ['its key', '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', false],
    ['another key', '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', true],
    ['everything', '1-1 2-2 {"v":1,"x":1}', false],
] as [$name, $frame, $stored]) {
    $f = at('1-1');
    $f->get('a', function () use ($f, $frame) {
        $f->message($frame);
        return 'old';
    });
    want("load while $name is invalidated", kept($f, 'a'), $stored);
}

// What polls and frames do to an entry that is stored after the first of them and before the others.
foreach ([
    ['no poll', [], [], false],
    ['a poll', [['1-1', 0]], [], true],
    ['an old poll', [['1-1', 6]], [], false],
    ['a head that is not received yet', [['1-1', 6], ['2-2', 0]], [], false],
    ['a head that is received later', [['1-1', 6], ['2-2', 0], '1-1 2-2 {"v":1}'], [], true],
    ['a head that was received before', [['1-1', 6], '1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}', ['2-2', 0]], [], true],
    ['a head that is received', [['1-1', 0]], [['2-2', 0], '1-1 2-2 {"v":1}', ['2-2', 0]], true],
    ['a head that is never received', [['1-1', 0]], [['2-2', 0], ['2-2', 0]], false],
    ['the lane is gone', [['1-1', 0]], [[null, 0]], false],
] as [$name, $before, $after, $stored]) {
    $f = at(null);
    $play = function (array $steps) use ($f): void {
        foreach ($steps as $step) {
            is_string($step) ? $f->message($step) : $f->head($step[0], hrtime(true) - $step[1] * 1_000_000_000);
        }
    };
    $play($before);
    put($f, 'a');
    $play($after);
    want($name, kept($f, 'a'), $stored);
}

exit($failed ? 1 : 0);
