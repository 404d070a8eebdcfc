-- Requests of wrk. Arguments: the flow; the path, or further fields of a sign-in; a file with one token per
-- line; the number of the first phone; the number of phones, after which the script starts again with the
-- first.
--
-- A sign-in or refresh needs data of an earlier response. This data is kept in `ready` until the next request
-- on any connection.

local flow, path, tokens, first, phones
local ready, sent = {}, 0
local requests, responses, written = {}, {}, {}

local function read(file)
  local lines = {}
  for line in io.lines(file) do lines[#lines + 1] = line end
  return lines
end

function init(args)
  flow, path, first, phones = args[1], args[2], tonumber(args[4]), tonumber(args[5])
  tokens = read(args[3])
  wrk.headers["Content-Type"] = "application/json"
  if flow == "refresh" then ready = tokens end
  -- wrk shares the machine with the server, so responses are not handled if the flow does not need them.
  if not responses[flow] then response = nil end
end

local function post(where, body)
  return wrk.format("POST", "/api/v1" .. where, nil, body)
end

local function next_token()
  sent = sent + 1
  return tokens[sent % #tokens + 1]
end

local function phone()
  sent = sent + 1
  return string.format("+7960%07d", first + sent % phones)
end

function requests.get()
  local token = next_token()
  written[token] = written[token] or wrk.format("GET", "/api/v1" .. path, { Authorization = "Bearer " .. token })
  return written[token]
end

function requests.search()
  sent = sent + 1
  local number = string.format("%07d", first + (sent * 7919) % phones)
  local where = path:gsub("NUMBER", number)
  return wrk.format("GET", "/api/v1" .. where, { Authorization = "Bearer " .. tokens[1] })
end

function requests.verify()
  local token = next_token()
  written[token] = written[token] or post("/auth/jwt/verify/", '{"token":"' .. token .. '"}')
  return written[token]
end

function requests.refresh()
  local token = table.remove(ready)
  -- If more requests are in progress than there are sessions, a token is sent again: the response is the
  -- same.
  return post("/auth/jwt/refresh/", '{"refresh":"' .. (token or tokens[1] or "") .. '"}')
end

function requests.sign()
  local sign_in = table.remove(ready)
  if sign_in then return post("/auth/jwt/get_by_phone/", sign_in) end
  return post("/auth/send_code/", '{"phone":"' .. phone() .. '"}')
end

function responses.refresh(body)
  ready[#ready + 1] = body:match('"refresh":"([^"]+)"')
end

function responses.sign(body)
  local code = body:match('"code":"(%d+)"')
  if code then
    ready[#ready + 1] = string.format('{"phone":"%s","challenge_id":"%s","code":"%s"%s}',
      body:match('"phone":"([^"]+)"'), body:match('"challenge_id":"([^"]+)"'), code, path)
  end
end

function request()
  return requests[flow]()
end

function response(status, _, body)
  if status ~= 200 then io.stderr:write(status, " ", body, "\n") end
  responses[flow](body)
end
