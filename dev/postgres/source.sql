-- One command a line: this file is also read by a server in single-user mode.
CREATE ROLE syncline LOGIN REPLICATION PASSWORD 'syncline';
GRANT SET ON PARAMETER session_replication_role TO syncline;
CREATE DATABASE shop OWNER syncline;
