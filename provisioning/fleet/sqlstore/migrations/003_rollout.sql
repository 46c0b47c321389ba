-- +goose Up
CREATE TABLE rollout (id TEXT PRIMARY KEY, seq BIGINT NOT NULL UNIQUE, body TEXT NOT NULL);
CREATE TABLE rollout_phone (rollout TEXT NOT NULL, device TEXT NOT NULL, position BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (rollout, device));

-- +goose Down
DROP TABLE rollout_phone;
DROP TABLE rollout;
