"""Usage: python3 change_price.py SKU PRICE. DB_SOCKET or DB_HOST and DB_PORT, DB_USER, DB_PASSWORD and DB_NAME state the database."""

import json
import os
import sys

import pymysql
import pymysql.cursors


def change_price(db, sku, price):
    db.begin()
    try:
        with db.cursor() as cursor:
            # The change comes first: its lock on the row makes versions follow the order of commits.
            cursor.execute("UPDATE products SET price = %s WHERE sku = %s", (price, sku))
            cursor.execute("SELECT sku, title, price, stock FROM products WHERE sku = %s", (sku,))
            product = cursor.fetchone()
            if product is None:
                raise LookupError(f"there is no product {sku}")
            product["price"] = str(product["price"])
            cursor.execute(
                "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('products', %s, 'upsert', %s)",
                (sku, json.dumps(product, ensure_ascii=False)),
            )
            if float(product["price"]) <= 0:
                raise ValueError("a price is above 0")
        db.commit()
    except BaseException:
        db.rollback()
        raise


def main():
    env = os.environ
    db = pymysql.connect(
        unix_socket=env.get("DB_SOCKET"),
        host=env.get("DB_HOST") or None,
        port=int(env.get("DB_PORT") or 0),
        user=env["DB_USER"],
        password=env.get("DB_PASSWORD", ""),
        database=env["DB_NAME"],
        charset="utf8mb4",
        cursorclass=pymysql.cursors.DictCursor,
    )
    try:
        change_price(db, sys.argv[1], sys.argv[2])
    finally:
        db.close()


if __name__ == "__main__":
    main()
