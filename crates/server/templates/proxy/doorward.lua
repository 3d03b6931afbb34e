-- /etc/haproxy/doorward.lua
-- Asks Doorward's gate about a request, then sets on it what the gate says, or answers in the gate's words.
local GATE = "http://{{ s.gate }}/forward-auth"
local SET = { {% for header in s.from_gate %}"{{ header.lower }}"{% if !loop.last %}, {% endif %}{% endfor %} }
local FOR_ONE_HOP = { connection = true, ["content-length"] = true, ["transfer-encoding"] = true, expect = true, host = true,
                      ["keep-alive"] = true, te = true }

local function one(values)
    return values and values[0]
end

core.register_action("doorward", { "http-req" }, function(txn)
    local seen, asked = txn.http:req_get_headers(), {}
    for name, values in pairs(seen) do
        if not FOR_ONE_HOP[name] then
            asked[name] = {}
            for i = 0, #values do asked[name][i + 1] = values[i] end
        end
    end
    asked["x-forwarded-method"] = { txn.f:method() }
    asked["x-forwarded-host"] = { one(seen.host) or "" }
    asked["x-forwarded-uri"] = { txn.f:pathq() }

    local asking = core.httpclient()
    local answer = asking:get{ url = GATE, headers = asked, timeout = 5000 }
    if answer and answer.status == 200 then
        for _, name in ipairs(SET) do
            txn.http:req_del_header(name)
            local value = one(answer.headers[name])
            if value and value ~= "" then txn.http:req_set_header(name, value) end
        end
        txn:set_var("txn.doorward", "allowed")
        return
    end

    -- Whatever else happens, the request goes no further.
    local reply = txn:reply{ status = 503 }
    if answer and answer.status >= 300 and answer.status < 600 then
        reply:set_status(answer.status)
        for name, values in pairs(answer.headers) do
            if not FOR_ONE_HOP[name] then
                for i = 0, #values do reply:add_header(name, values[i]) end
            end
        end
        reply:set_body(answer.body or "")
    else
        reply:add_header("retry-after", "5")
        reply:add_header("cache-control", "no-store")
    end
    txn:done(reply)
end)
