'use strict';

// Usage: node change-price.js SKU PRICE. DB_SOCKET or DB_HOST and DB_PORT, DB_USER, DB_PASSWORD and DB_NAME state the database.

const mysql = require('mysql2/promise');

async function changePrice(db, sku, price) {
  await db.beginTransaction();
  try {
    // The change comes first: its lock on the row makes versions follow the order of commits.
    await db.execute('UPDATE products SET price = ? WHERE sku = ?', [price, sku]);
    const [[product]] = await db.execute('SELECT sku, title, price, stock FROM products WHERE sku = ?', [sku]);
    if (!product) throw new Error(`there is no product ${sku}`);
    await db.execute(
      "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('products', ?, 'upsert', ?)",
      [sku, JSON.stringify(product)],
    );
    if (Number(product.price) <= 0) throw new Error('a price is above 0');
    await db.commit();
  } catch (err) {
    await db.rollback();
    throw err;
  }
}

async function main([sku, price]) {
  const env = process.env;
  const db = await mysql.createConnection({
    socketPath: env.DB_SOCKET,
    host: env.DB_HOST,
    port: env.DB_PORT,
    user: env.DB_USER,
    password: env.DB_PASSWORD,
    database: env.DB_NAME,
  });
  try {
    await changePrice(db, sku, price);
  } finally {
    await db.end();
  }
}

main(process.argv.slice(2)).catch((err) => {
  console.error(err.message);
  process.exitCode = 1;
});
