package config

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // what old keys are encrypted with
	"crypto/pbkdf2"
	"crypto/sha1" // the default pseudo-random function of PBKDF2
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// decryptPKCS8 opens an "ENCRYPTED PRIVATE KEY" with PBES2, PBKDF2 and AES or
// triple DES in CBC, which is what OpenSSL and keytool write (RFC 8018), and
// returns the key as PKCS #8.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	if password == "" {
		return nil, errors.New("it is encrypted and no password is given (ssl.key.password)")
	}
	var outer struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, errors.New("it is not an encrypted PKCS #8 key")
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, unsupported(outer.Algorithm.Algorithm)
	}
	var scheme struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, errors.New("its encryption's parameters cannot be read")
	}
	ciphered, err := pbesCipher(scheme.Cipher)
	if err != nil {
		return nil, err
	}
	key, err := pbkdf(scheme.KDF, password, ciphered.size)
	if err != nil {
		return nil, err
	}
	plain, err := ciphered.open(key, outer.Data)
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, errWrongKeyPassword
	}
	return plain, nil
}

var errWrongKeyPassword = errors.New("wrong key password (ssl.key.password)")

func unsupported(oid asn1.ObjectIdentifier) error {
	return fmt.Errorf("it is encrypted in a way that is not supported (%s): convert it with openssl pkcs8 -topk8 -v2 aes256 -v2prf hmacWithSHA256 -in old.pem -out new.pem", oid)
}

// Object identifiers of RFC 8018 and of NIST.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	// pseudoRandom are PBKDF2's functions by the last arc under
	// 1.2.840.113549.2.
	pseudoRandom = map[int]func() hash.Hash{7: sha1.New, 9: sha256.New, 10: sha512.New384, 11: sha512.New}

	pbesCiphers = []struct {
		oid   asn1.ObjectIdentifier
		size  int
		block func([]byte) (cipher.Block, error)
	}{
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
	}
)

// pbkdf derives the key.
func pbkdf(kdf pkix.AlgorithmIdentifier, password string, size int) ([]byte, error) {
	if !kdf.Algorithm.Equal(oidPBKDF2) {
		return nil, unsupported(kdf.Algorithm)
	}
	var p struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(kdf.Parameters.FullBytes, &p); err != nil || p.Iterations < 1 || p.Iterations > 10_000_000 {
		return nil, errors.New("the parameters of its key derivation cannot be used")
	}
	random := sha1.New
	if oid := p.PRF.Algorithm; len(oid) > 0 {
		random = pseudoRandom[oid[len(oid)-1]]
		if random == nil || !oid[:len(oid)-1].Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 2}) {
			return nil, unsupported(oid)
		}
	}
	return pbkdf2.Key(random, password, p.Salt, p.Iterations, size)
}

// blockCipher is a cipher in CBC mode with its initial vector.
type blockCipher struct {
	size  int
	block func([]byte) (cipher.Block, error)
	iv    []byte
}

func pbesCipher(id pkix.AlgorithmIdentifier) (blockCipher, error) {
	for _, c := range pbesCiphers {
		if !c.oid.Equal(id.Algorithm) {
			continue
		}
		b := blockCipher{size: c.size, block: c.block}
		if _, err := asn1.Unmarshal(id.Parameters.FullBytes, &b.iv); err != nil {
			return b, errors.New("the parameters of its cipher cannot be read")
		}
		return b, nil
	}
	return blockCipher{}, unsupported(id.Algorithm)
}

// open decrypts and takes the padding off; a padding that is none means that
// the password is wrong.
func (b blockCipher) open(key, data []byte) ([]byte, error) {
	block, err := b.block(key)
	if err != nil {
		return nil, fmt.Errorf("make its cipher: %w", err)
	}
	n := block.BlockSize()
	if len(b.iv) != n || len(data) == 0 || len(data)%n != 0 {
		return nil, errors.New("it is damaged")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, b.iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > n || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errWrongKeyPassword
	}
	return plain[:len(plain)-pad], nil
}
