<?php

declare(strict_types=1);

// Usage: php change_price.php SKU PRICE. DB_DSN, DB_USER and DB_PASSWORD state the database.

function changePrice(PDO $db, string $sku, string $price): void
{
    $db->beginTransaction();
    try {
        // The change comes first: its lock on the row makes versions follow the order of commits.
        $db->prepare('UPDATE products SET price = ? WHERE sku = ?')->execute([$price, $sku]);
        $select = $db->prepare('SELECT sku, title, price, stock FROM products WHERE sku = ?');
        $select->execute([$sku]);
        $product = $select->fetch();
        if ($product === false) {
            throw new RuntimeException("there is no product $sku");
        }
        $db->prepare("INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('products', ?, 'upsert', ?)")
            ->execute([$sku, json_encode($product, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE)]);
        if ((float) $product['price'] <= 0) {
            throw new RuntimeException('a price is above 0');
        }
        $db->commit();
    } catch (Throwable $e) {
        $db->rollBack();
        throw $e;
    }
}

$db = new PDO(getenv('DB_DSN'), getenv('DB_USER'), getenv('DB_PASSWORD') ?: '', [
    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
    PDO::ATTR_EMULATE_PREPARES => false, // numbers stay numbers
]);
changePrice($db, $argv[1], $argv[2]);
