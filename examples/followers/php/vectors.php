<?php
declare(strict_types=1);
// Runs the vectors of the protocol and the rules of a follower: php vectors.php FOLDER
foreach (['Follower', 'Lane', 'LocalTable', 'Names', 'Tables'] as $class) {
    require __DIR__ . "/$class.php";
}

const SECTIONS = [['dataset' => 'users', 'hash' => 'h1', 'names' => ['user:{id}' => ['id' => 'integer']]]];
$failed = 0;
$follower = new Follower(LocalTable::class, 'vectors', SECTIONS, maxStale: 5.0, maxEntries: 1000);

function want(string $name, mixed $got, mixed $wanted): void
{
    global $failed;
    if ($got !== $wanted) {
        $failed++;
        echo $name, ': got ', var_export($got, true), ', want ', var_export($wanted, true), "\n";
    }
}

function vectors(string $file): array
{
    global $argv;
    return json_decode(file_get_contents("$argv[1]/$file"), true, 512, JSON_THROW_ON_ERROR);
}

/** Returns a lane that nothing is known of; what was stored before is void. */
function lane(): Lane
{
    global $follower;
    $follower->tables->state->set('agreed0:users', ['n' => 0]);
    return new Lane($follower->tables, 'vectors', 0, 1, ['users' => 'h1']);
}

function poll(Lane $lane, ?string $last, float $age = 0, string $lanes = '1', string $hash = 'h1'): bool
{
    global $follower;
    return $lane->polled([$last, $lanes, $hash], $follower->tables->now() - (int) ($age * 1e9));
}

function at(string $last): Lane
{
    $lane = lane();
    poll($lane, $last);
    return $lane;
}

function read(string $key, callable $load): ?string
{
    global $follower;
    return $follower->read('users', $key, $load);
}

function put(string $key): void
{
    read($key, fn () => 'old');
}

function kept(string $key): bool
{
    return read($key, fn () => 'new') === 'old';
}

function kinds(array $values): array
{
    return array_map(fn ($value) => get_debug_type($value) === 'int' ? 'integer' : (is_bool($value) ? 'boolean' : 'string'), $values);
}

function fails(callable $what): bool
{
    try {
        $what();
        return false;
    } catch (InvalidArgumentException) {
        return true;
    }
}

foreach (vectors('names.json') as $vector) {
    want("name of $vector[template]", Names::render($vector['template'], kinds($vector['values']), $vector['values']), $vector['name']);
}
foreach (vectors('spellings.json') as $vector) {
    want('spelling ' . json_encode($vector['values']), fails(fn () => Names::render($vector['template'], $vector['kinds'], $vector['values'])), true);
}
want('half a character', fails(fn () => Names::render('u:{a}', ['a' => 'string'], ['a' => "\xC3"])), true);
want('an integer as text', Names::render('u:{a}', ['a' => 'integer'], ['a' => '-42']), 'u:-42');
want('another template', fails(fn () => $follower->get('users', 'users:{id}', ['id' => 1], fn () => 'x')), true);
foreach ([null, false, '', '-'] as $hash) { // getenv() says false
    want('the hash ' . json_encode($hash), fails(fn () => new Follower(LocalTable::class, 'vectors', [['dataset' => 'users', 'hash' => $hash, 'names' => []]])), true);
}
foreach (vectors('keys.json') as $vector) {
    want("crc32 of $vector[key]", crc32($vector['key']), $vector['crc32']);
}
want('a missing property', Names::render('u:{a}', ['a' => 'string'], ['a' => null]), null);

foreach (vectors('frames.json') as $vector) {
    if ($vector['strict'] ?? false) {
        continue;
    }
    $name = $vector['name'];
    $payload = $vector['payload'] ?? [];
    $keys = $payload['k'] ?? [];
    $lane = at(($vector['last'] ?? '') ?: ($vector['prev'] ?? '') ?: '0-0');
    array_map(put(...), ['other', ...$keys]);
    $lane->message($vector['frame']);
    $distrusted = isset($vector['error']) || !$vector['follows'] || isset($payload['x']);
    want($name, kept('other'), !$distrusted && !isset($payload['g']));
    foreach ($keys as $key) {
        want("$name: $key", kept($key), false);
    }
    if ($vector['id'] ?? '') { // the next entry follows this one, and a poll in between gives trust again
        poll($lane, $vector['id']);
        put('after');
        $lane->message($vector['id'] . ' 9-9 {"v":1}');
        want("$name, then the next", kept('after'), true);
    }
}

foreach ([
    ['its key', '1-1 2-2 {"v":1,"k":["a"],"n":[1]}', false],
    ['another key', '1-1 2-2 {"v":1,"k":["b"],"n":[1]}', true],
    ['everything', '1-1 2-2 {"v":1,"x":1}', false],
] as [$name, $frame, $stored]) {
    $lane = at('1-1');
    read('a', function () use ($lane, $frame) {
        $lane->message($frame);
        return 'old';
    });
    poll($lane, '2-2');
    want("load while $name is invalidated", kept('a'), $stored);
}

// What polls and frames do to an entry that is stored after the first of them and before the others.
$flush = '1-1 2-2 {"v":1,"x":1}';
foreach ([
    ['no poll', [], [], false],
    ['a poll', [['1-1']], [], true],
    ['an old poll', [['1-1', 6]], [], false],
    ['a head that is not received yet', [['1-1', 6], ['2-2']], [], false],
    ['a head that is received later', [['1-1', 6], ['2-2'], '1-1 2-2 {"v":1}'], [], true],
    ['a head that was received before', [['1-1', 6], '1-1 2-2 {"v":1}', '2-2 3-3 {"v":1}', ['2-2']], [], true],
    ['a head that is received', [['1-1']], [['2-2'], '1-1 2-2 {"v":1}', ['2-2']], true],
    ['a head that is never received', [['1-1']], [['2-2'], ['2-2']], false],
    ['the lane is gone', [['1-1']], [[null]], false],
    ['another number of lanes', [['1-1', 0, '2']], [], false],
    ['another number of lanes later', [['1-1']], [['1-1', 0, '2']], false],
    ['another cache section', [['1-1', 0, '1', 'h2']], [], false],
    ['another cache section later', [['1-1']], [['1-1', 0, '1', 'h2']], false],
    ['another cache section in between', [['1-1']], [['1-1', 0, '1', 'h2'], ['1-1']], false],
    ['a flush before the lane was looked at', [['1-1'], $flush], [], false],
    ['a flush and a look that was sent before it', [['1-1'], $flush, ['2-2', 3]], [], false],
    ['a flush and a look after it', [['1-1'], $flush, ['2-2']], [], true],
] as [$name, $before, $after, $stored]) {
    $lane = lane();
    $play = function (array $steps) use ($lane): void {
        foreach ($steps as $step) {
            is_string($step) ? $lane->message($step) : poll($lane, ...$step);
        }
    };
    $play($before);
    put('a');
    $play($after);
    want($name, kept('a'), $stored);
}

// Time only moves forward, or a look after a flush would count as sent before it.
[$before, $backwards] = [$follower->tables->now(), 0];
for ($i = 0; $i < 100_000; $i++) {
    $time = $follower->tables->now();
    $backwards += (int) ($time <= $before);
    $before = $time;
}
want('times that are not after the one before', $backwards, 0);

// What goes on for long while polls fail, messages get lost, or the machine is suspended.
$lane = lane();
for ($i = 0; $i < 10_010; $i++) {
    $lane->message("$i-1 " . ($i + 1) . '-1 {"v":1}');
}
want('entries remembered without polls', $lane->remembered() <= 10_000, true);
$lane = at('1-1');
array_map(fn (string $head) => poll($lane, $head), ['2-2', '3-3', '4-4', '5-5']);
want('messages that never arrive are reported', str_contains(implode($lane->notReady(5.0)), 'do not arrive'), true);
at('1-1');
put('a');
want('an entry before', kept('a'), true);
$follower->tables->state->set('ahead', ['n' => $follower->tables->number('ahead') + 3_600_000_000_000]); // as another process saw the clock set
want('an entry from before the machine was suspended', kept('a'), false);

// An entry ends by itself, and a record that is not there is kept as such.
at('1-1');
$brief = new Follower(LocalTable::class, 'vectors', SECTIONS, maxStale: 5.0, maxEntries: 1000, ttl: 0.0);
$brief->lanes[0]->polled(['1-1', '1', 'h1'], $brief->tables->now());
$brief->read('users', 'a', fn () => 'old');
want('an entry past its TTL', $brief->read('users', 'a', fn () => 'new'), 'new');
read('gone', fn () => null);
want('a record that is not there', read('gone', fn () => 'old'), null);

// A change makes its own part of the keys stale and no other: of 1,000 entries that fit, 1,000 changes of other keys leave nearly all.
$many = array_map(fn (int $i) => "user:$i", range(1, 300));
array_map(put(...), $many);
$lane = at('1-1');
array_map(put(...), $many);
for ($i = 1; $i <= 1000; $i++) {
    $lane->message("$i-$i " . ($i + 1) . '-' . ($i + 1) . ' {"v":1,"k":["other:' . $i . '"],"n":[1]}');
}
want('entries that changes of other keys leave', count(array_filter($many, kept(...))) > 280, true);

// A full table replaces and never refuses: no warning, and what is read often finds a place.
set_error_handler(fn (int $level, string $text) => want('no warning', $text, ''));
$lane = at('1-1');
for ($i = 0; $i < 20_000; $i++) {
    put("full:$i");
}
want('rows of a table for 1,000', $follower->tables->entries->count() <= 1000, true);
want('rows that are used', $follower->tables->entries->count() > 900, true);
want('the newest entry', kept('full:19999'), true);
want('refused entries', $follower->refused(), 0);

exit($failed ? 1 : 0);
