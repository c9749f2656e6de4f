-- One expression a line; each runs over all rows of the table.
UPPER(t)
i4 / 0
CASE WHEN i4 <> 0 THEN 100 / i4 END
i2 + i2
c = 'ab'
c || 'x'
LENGTH(c)
n / 3
t::integer
t::numeric
t::boolean
t::date
v::numeric(3,1)
1 / 3.0
2 % 0
'a' < 'B'
t LIKE 'h%' AND NOT b
b IS NOT TRUE
NOT b OR NULL
i4 IN (1, NULL, 42)
NULLIF(t, '')
i8 = 10 AND i4 > 0 OR b
1 + 2 * 3 - 4 / 2
'12' || i4
tz AT TIME ZONE 'Europe/Berlin'
(ts AT TIME ZONE 'Europe/Berlin')::text
tz > '2020-01-01'
d = '2024-02-29'
t = 'hello' OR v = 'abc'
ABS(i4)
ROUND(2.5)
ROUND(f8)
ROUND(i4)
n2 * 1.19
jb -> 'a' ->> 0
jsonb_build_object('id', id, 'at', tz, 'n', n2, 'd', d)
