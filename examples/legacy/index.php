<?php

declare(strict_types=1);

// GET  /?sku=lamp-1              the product's page, from Redis if it is there
// POST /?sku=lamp-1  price=9.90  changes its price
//
// DB_DSN, DB_USER and DB_PASSWORD state the database, REDIS_HOST and REDIS_PORT (0 for a socket) the cache.

function database(): PDO
{
    return new PDO(getenv('DB_DSN'), getenv('DB_USER'), getenv('DB_PASSWORD') ?: '', [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
        PDO::ATTR_EMULATE_PREPARES => false, // numbers stay numbers
    ]);
}

function cache(): Redis
{
    $redis = new Redis();
    $redis->connect(getenv('REDIS_HOST'), (int) getenv('REDIS_PORT'));
    return $redis;
}

function product(PDO $db, string $sku): ?array
{
    $select = $db->prepare('SELECT sku, title, price FROM products WHERE sku = ?');
    $select->execute([$sku]);
    return $select->fetch() ?: null;
}

function show(string $sku): void
{
    $cache = cache();
    $page = $cache->get("page:product:$sku");
    header('X-Page: ' . ($page === false ? 'rendered' : 'cached'));
    if ($page === false) {
        $product = product(database(), $sku);
        if ($product === null) {
            http_response_code(404);
            return;
        }
        $page = '<h1>' . htmlspecialchars($product['title']) . '</h1><p>' . $product['price'] . '</p>';
        $cache->setex("page:product:$sku", 3600, $page); // an external key needs a TTL: see docs/datasets.md
    }
    echo $page;
}

// What this page did before: UPDATE, then $cache->del("page:product:$sku"). If the process ended between the two, or Redis
// was away, the old page stayed for an hour. Now the event commits with the row, and the worker deletes the key.
function change(string $sku, string $price): void
{
    $db = database();
    $db->beginTransaction();
    $db->prepare('UPDATE products SET price = ? WHERE sku = ?')->execute([$price, $sku]);
    $product = product($db, $sku);
    if ($product === null) {
        $db->rollBack();
        http_response_code(404);
        return;
    }
    $db->prepare("INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('products', ?, 'upsert', ?)")
        ->execute([$sku, json_encode($product, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE)]);
    $db->commit();
    http_response_code(204);
}

$sku = (string) ($_GET['sku'] ?? '');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    change($sku, (string) ($_POST['price'] ?? ''));
} else {
    show($sku);
}
