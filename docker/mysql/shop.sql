-- The demo's shop: its tables, its account, and Millrace's with the least grants, as `millrace sql` prints them. The
-- passwords are a demo's: docker-compose.yml holds them, too, and lets nobody else than this machine in.

CREATE DATABASE IF NOT EXISTS shop;

CREATE TABLE IF NOT EXISTS shop.orders (
  id          BIGINT NOT NULL AUTO_INCREMENT,
  customer_id BIGINT NOT NULL,
  status      VARCHAR(16) NOT NULL,
  total_minor BIGINT NOT NULL,
  placed_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS `shop`.`outbox` (
  id            CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  aggregatetype VARCHAR(255) NOT NULL,
  aggregateid   VARCHAR(255) NOT NULL,
  type          VARCHAR(255) NOT NULL,
  payload       JSON,
  created_at    TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (id),
  KEY outbox_created_at (created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE USER IF NOT EXISTS 'shop'@'%' IDENTIFIED BY 'shop';
GRANT SELECT, INSERT, UPDATE ON shop.orders TO 'shop'@'%';
GRANT INSERT ON shop.outbox TO 'shop'@'%';

CREATE USER IF NOT EXISTS 'millrace'@'%' IDENTIFIED BY 'millrace' REQUIRE SSL;
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'millrace'@'%';
GRANT SELECT ON `shop`.`outbox` TO 'millrace'@'%';
