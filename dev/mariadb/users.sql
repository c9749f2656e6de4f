-- One command a line: this file is also read by a server in bootstrap mode.
CREATE DATABASE shop;
CREATE DATABASE analytics;
CREATE USER syncline@'%' IDENTIFIED BY 'syncline';
GRANT ALL ON shop.* TO syncline@'%';
GRANT ALL ON analytics.* TO syncline@'%';
GRANT SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO syncline@'%';
