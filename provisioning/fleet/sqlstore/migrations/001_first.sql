-- +goose Up
CREATE TABLE device (id TEXT PRIMARY KEY, state TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE manufacturer (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE reference_value (model TEXT NOT NULL, release TEXT NOT NULL, manufacturer TEXT NOT NULL, envelope TEXT NOT NULL, PRIMARY KEY (model, release));
CREATE TABLE setting (scope TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE configuration (device TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE report (device TEXT NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX report_device ON report (device, kind, at);
CREATE TABLE audit (seq BIGINT PRIMARY KEY, body TEXT NOT NULL);

-- +goose Down
DROP TABLE audit;
DROP TABLE report;
DROP TABLE configuration;
DROP TABLE setting;
DROP TABLE reference_value;
DROP TABLE manufacturer;
DROP TABLE device;
